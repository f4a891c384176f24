//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadConfig: each bad content gets a message that a person can act on, from
// validate and, by the same words, from a start.
func TestBadConfig(t *testing.T) {
	const listen = "server: {listen: ['127.0.0.1:0']}\n"
	for _, c := range []struct {
		name, config string
		says         []string
	}{
		{"tab", "server:\n\tlisten: x\n", []string{"config.yaml:2", "spaces"}},
		{"duplicate key", "log:\n  level: info\n  level: debug\n", []string{"config.yaml:3", "log.level"}},
		{"wrong unit", "server: {timeout: {request: 3 fortnights}}\n", []string{"config.yaml:1: server.timeout.request: want a duration such as 1500ms, 3s"}},
		{"negative timeout", "server: {timeout: {request: -3s}}\n", []string{"server.timeout.request", "negative"}},
		{"not a level", "log: {level: loud}\n", []string{"log.level: must be one of debug, info, warn, error"}},
		{"a list where text is wanted", "log: {level: [info]}\n", []string{"config.yaml:1: log.level[0]: log.level is not a list"}},
		{"text where a section is wanted", "server: fast\n", []string{"server: is a section"}},
		{"bad address", "server: {listen: ['localhost']}\n", []string{"server.listen[0]"}},
		{"no address", "server: {listen: []}\n", []string{"server.listen"}},
		{"binary", "\x7fELF\x02\x01\x01\x00\x00\x00", []string{"config.yaml", "text"}},
		{"a list at the top", "- a\n- b\n", []string{"config.yaml:1"}},
		{"alias bomb", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\npublic: {x: [*d,*d,*d,*d,*d,*d,*d,*d,*d]}\n", []string{"limit"}},
		{"both names", "app: {timeout: 1s}\nserver: {timeout: {request: 2s}}\n", []string{"app.timeout: is another name of server.timeout.request"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFolder(t, c.config)
			f.svc("validate", "config.yaml").want(t, 1, c.says...)
			f.svc("validate").want(t, 1, c.says...)
			got := f.svc("run")
			got.want(t, 1, c.says...)
			for _, value := range []string{"fortnights", "loud", "fast"} {
				if strings.Contains(got.stderr+got.stdout, value) {
					t.Errorf("a value shows: %s", got.stderr)
				}
			}
		})
	}
	for name, config := range map[string]string{
		"byte order mark": "\ufeff" + listen,
		"CRLF":            strings.ReplaceAll(listen+"log:\n  level: info\n", "\n", "\r\n"),
		"empty":           "# nothing is set\n",
		"alias":           "app: {timeout: 1s}\n",
	} {
		t.Run(name, func(t *testing.T) {
			newFolder(t, config).svc("validate").want(t, 0, "valid")
		})
	}
	t.Run("several problems at once", func(t *testing.T) {
		f := newFolder(t, "log: {level: loud}\nserver:\n  timeout: {request: soon}\n  drain: {timeout: [1]}\n")
		f.svc("validate").want(t, 1, "config.yaml:3: server.timeout.request", "config.yaml:4: server.drain.timeout")
	})
	t.Run("unknown key", func(t *testing.T) {
		f := newFolder(t, "server: {timeout: {requst: 1s}}\n")
		f.svc("validate").want(t, 0, "warning: ./config.yaml:1: server.timeout.requst: no setting has this name, did you mean server.timeout.request?")
		f.svc("validate", "--strict").want(t, 1, "config.yaml:1: server.timeout.requst")
		f.svc("run", "--strict").want(t, 1, "config.yaml:1: server.timeout.requst")
	})
	t.Run("standard input and output forms", func(t *testing.T) {
		f := newFolder(t, "")
		f.svcInput("log: {level: debug}", "validate", "-").want(t, 0, "valid")
		f.svcInput("log: {level: loud}", "validate", "-", "--output", "json").want(t, 1, `"valid": false`, `"key": "log.level"`, `"line": 1`)
		f.svc("validate", "-o", "xml").want(t, 2)
		f.write("c.toml", "[log]\nlevel = 'loud'\n")
		f.svc("validate", "c.toml").want(t, 1, "c.toml:2: log.level")
		f.write("c.json", "{\"log\": {\"level\": \"debug\"}}")
		f.svc("validate", "c.json").want(t, 0)
		f.write("c.properties", "log.level=warn\nserver.timeout.request=1500\n")
		f.svc("validate", "c.properties").want(t, 0)
		f.svc("validate", "c.ini").want(t, 2)
	})
}

func TestUnusableFiles(t *testing.T) {
	t.Run("missing", func(t *testing.T) {
		f := newFolder(t, "")
		f.svc("validate", "nowhere.yaml").want(t, 2, "nowhere.yaml")
		f.svc("validate").want(t, 2, "not found", "config.yaml")
		f.svc("run", "--file", "nowhere.yaml").want(t, 1, "nowhere.yaml", "not found", "--file")
		if _, err := os.Stat(f.path("config.yaml")); err == nil {
			t.Error("a default config was written although a file was named")
		}
	})
	t.Run("directory", func(t *testing.T) {
		f := newFolder(t, "")
		if err := os.Mkdir(f.path("config.yaml"), 0o700); err != nil {
			t.Fatal(err)
		}
		f.svc("validate", "config.yaml").want(t, 2, "not a regular file")
		f.svc("run").want(t, 1, "config.yaml", "directory")
	})
	t.Run("named pipe", func(t *testing.T) {
		f := newFolder(t, "")
		if err := syscall.Mkfifo(f.path("config.yaml"), 0o600); err != nil {
			t.Fatal(err)
		}
		f.svc("validate", "config.yaml").want(t, 2, "not a regular file")
		f.svc("run").want(t, 1, "config.yaml")
	})
	t.Run("100 MB", func(t *testing.T) {
		f := newFolder(t, "")
		file, err := os.Create(f.path("config.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		chunk := bytes.Repeat([]byte("# 0123456789abcdef\n"), 1<<16)
		for range 85 {
			if _, err := file.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		f.svc("validate", "config.yaml").want(t, 1, "larger than the limit of 4194304 bytes")
		f.svc("run").want(t, 1, "config.yaml", "larger than the limit of 4194304 bytes")
	})
	t.Run("unknown ending", func(t *testing.T) {
		newFolder(t, "").svc("run", "--file", "config.txt").want(t, 2, "config.txt", ".yaml")
	})
	t.Run("other source", func(t *testing.T) {
		newFolder(t, "").svc("run", "--source", "zookeeper").want(t, 2, "zookeeper", "file")
	})
	t.Run("bad set", func(t *testing.T) {
		newFolder(t, "").svc("run", "--set", "log.level").want(t, 2, "--set: want key=value")
		f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
		got := f.svc("run", "--set", "log.level=loud")
		got.want(t, 1, "--set log.level: log.level: must be one of")
		f.svc("run", "--set", "server=fast").want(t, 1, "server")
	})
}

func TestUsage(t *testing.T) {
	f := newFolder(t, "")
	f.svc("nonsense").want(t, 2, "unknown command", "svc --help")
	f.svc("run", "--nonsense").want(t, 2, "unknown flag")
	f.svc("status", "extra").want(t, 2)
	f.svc("plan", "a.yaml", "b.yaml").want(t, 2)
	f.svc().want(t, 0, "Available Commands")
	for _, command := range []string{"run", "validate", "plan", "status", "config", "history", "rollback", "reload", "doctor", "version"} {
		f.svc(command, "--help").want(t, 0, "Usage:", "Examples:")
	}
	f.svc("rollback", "0123456789ab", "-o", "yaml").want(t, 2, "want text or json")
	f.svc("rollback", "").want(t, 2, "--resume")
	f.svc("doctor").want(t, 0, "does not exist yet")
	f.svc("plan", "--admin", "127.0.0.1:1").want(t, 2, "127.0.0.1:1")
	f.svc("version", "-o", "json").want(t, 0, `"version": "dev"`)
	f.svc("completion", "bash").want(t, 0, "bash completion")
}

func TestAddressProblems(t *testing.T) {
	t.Run("port in use", func(t *testing.T) {
		var config net.ListenConfig
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		f := newFolder(t, "server: {listen: ['"+l.Addr().String()+"']}\n")
		f.svc("run").want(t, 1, l.Addr().String(), "server.listen")
		f.svc("doctor").want(t, 1, "BAD", "addresses", l.Addr().String())
		f.svc("validate").want(t, 0, "valid")
		if _, err := os.Stat(f.path(".svc/last-good.json")); err == nil {
			t.Error("a config that could not start became the last good one")
		}
	})
	t.Run("no right to the port", func(t *testing.T) {
		f := newFolder(t, "server: {listen: ['127.0.0.1:81']}\n")
		f.asNobody()
		f.svc("run").want(t, 1, "127.0.0.1:81", "permission denied")
	})
	t.Run("not an address of this machine", func(t *testing.T) {
		f := newFolder(t, "server: {listen: ['192.0.2.1:8080']}\n")
		f.svc("run").want(t, 1, "192.0.2.1:8080")
	})
}

func TestStateFolderProblems(t *testing.T) {
	const config = "server: {listen: ['127.0.0.1:0']}\n"
	t.Run("second instance", func(t *testing.T) {
		f := newFolder(t, config)
		r := f.start()
		f.svc("run").want(t, 1, "lock state folder ./.svc", "is running with it", "SVC_STATE_DIR")
		if !r.status().Healthy {
			t.Error("the first instance suffered")
		}
	})
	t.Run("not writable", func(t *testing.T) {
		f := newFolder(t, config)
		if err := os.Mkdir(f.path(".svc"), 0o555); err != nil {
			t.Fatal(err)
		}
		f.asNobody()
		if err := os.Chmod(f.path(".svc"), 0o555); err != nil {
			t.Fatal(err)
		}
		f.svc("run").want(t, 1, ".svc", "permission denied", "SVC_STATE_DIR")
		f.svc("doctor").want(t, 1, "BAD", "state folder")
	})
	t.Run("a file in its place", func(t *testing.T) {
		f := newFolder(t, config)
		f.write(".svc", "x")
		f.svc("run").want(t, 1, ".svc", "SVC_STATE_DIR")
	})
	t.Run("path too long for a socket", func(t *testing.T) {
		f := newFolder(t, config)
		f.svc("run", "--state-dir", f.path(strings.Repeat("long/", 20))).want(t, 1, "choose a shorter state folder")
	})
	t.Run("stale socket", func(t *testing.T) {
		f := newFolder(t, config)
		r := f.start()
		r.signal(syscall.SIGKILL)
		r.exited()
		if info, err := os.Lstat(f.path(".svc/admin.sock")); err != nil || info.Mode()&os.ModeSocket == 0 {
			t.Fatalf("no stale socket: %v", err)
		}
		f.svc("status").want(t, 1, "no service answers")
		if !f.start().status().Healthy {
			t.Error("not healthy")
		}
	})
	t.Run("no socket where the socket goes", func(t *testing.T) {
		f := newFolder(t, config)
		if err := os.Mkdir(f.path(".svc"), 0o700); err != nil {
			t.Fatal(err)
		}
		f.write(".svc/admin.sock", "precious")
		f.svc("run").want(t, 1, "admin.sock", "no socket")
		if data, err := os.ReadFile(f.path(".svc/admin.sock")); err != nil || string(data) != "precious" {
			t.Error("a file that is no socket was removed")
		}
	})
	t.Run("private", func(t *testing.T) {
		f := newFolder(t, config)
		f.start()
		for name, mode := range map[string]os.FileMode{".svc": 0o700, ".svc/admin.sock": 0o600, ".svc/last-good.json": 0o600, ".svc/lock": 0o600} {
			if info, err := os.Stat(f.path(name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v %v", name, info.Mode(), err)
			}
		}
	})
}

// asNobody makes the commands run without root's rights. Outside root they do
// anyway.
func (f *folder) asNobody() {
	f.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	// The test's own folders are private; nobody needs one of its own.
	dir, err := os.MkdirTemp("", "svc")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.CopyFS(dir, os.DirFS(f.dir)), copyProgram(filepath.Join(dir, "svc")), os.Chmod(dir, 0o777)); err != nil {
		f.t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, nobody, nobody))
	}); err != nil {
		f.t.Fatal(err)
	}
	f.dir, f.self = dir, filepath.Join(dir, "svc")
	f.uid = nobody
}

const nobody = 65534

func copyProgram(path string) error {
	in, err := os.Open(os.Getenv(plainBuild))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// TestCanary: a secret in any place of a file shows in nothing that the program
// prints.
func TestCanary(t *testing.T) {
	const canary = "canary-77aa-0123456789"
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\nadmin: {token: "+canary+"}\npasswrd: "+canary+"\n")
	r := f.start()
	seen := &strings.Builder{}
	look := func(args ...string) {
		got := f.svc(args...)
		seen.WriteString(got.stdout + got.stderr)
	}
	for _, edit := range []string{
		"server: {listen: ['127.0.0.1:0'], timeout: {request: " + canary + "}}\nadmin: {token: " + canary + "2}\n",
		"server: {listen: ['127.0.0.1:0']}\nadmin:\n\ttoken: " + canary + "\n",
		"admin: {token: [" + canary + ", {" + "a: " + canary + "}]}\nlog: {level: " + canary + "}\n",
		"admin: {token: \"" + canary + "\n",
	} {
		f.edit(edit)
		f.svc("reload")
		for _, command := range []string{"status", "config", "history", "reload", "doctor", "validate", "plan"} {
			look(command)
			look(command, "--output", "json")
		}
	}
	r.signal(syscall.SIGQUIT)
	time.Sleep(100 * time.Millisecond)
	r.signal(syscall.SIGTERM)
	r.exited()
	seen.WriteString(r.log.String())
	if strings.Contains(seen.String(), canary) {
		for line := range strings.Lines(seen.String()) {
			if strings.Contains(line, canary) {
				t.Errorf("the secret shows: %s", line)
			}
		}
	}
	if seen.Len() < 5000 {
		t.Errorf("only %d bytes were looked at", seen.Len())
	}
}
