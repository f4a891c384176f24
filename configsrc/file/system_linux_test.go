package file

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/configsrc"
)

const (
	nobody   = 65534
	envMount = "FILE_TEST_MOUNTS"
)

// rerun runs one test of this binary in a child process and wants it to pass.
func rerun(t *testing.T, binary, run string, attr *syscall.SysProcAttr, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.run="+run, "-test.v", "-test.timeout=5m")
	cmd.SysProcAttr = attr
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = filepath.Dir(binary)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: ") {
		t.Errorf("%v\n%s", err, out)
		return
	}
	t.Logf("%s", out)
}

// rerunAsNobody runs a test as a user to whom file modes apply.
func rerunAsNobody(t *testing.T, run string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the child is not root any more, and was to run the test itself")
	}
	// t.TempDir is for its owner alone.
	dir, err := os.MkdirTemp("", "file-test-") //nolint:usetesting // see above
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chown(dir, nobody, nobody))
	self, err := os.Executable()
	must(t, err)
	in, err := os.Open(self)
	must(t, err)
	defer in.Close() //nolint:errcheck // it was only read
	binary := filepath.Join(dir, "test")
	out, err := os.OpenFile(binary, os.O_WRONLY|os.O_CREATE, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	must(t, os.Chmod(binary, 0o755))
	rerun(t, binary, run, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, "TMPDIR="+dir)
}

// TestModes: a file or a directory on the way that may not be read any more,
// and may again.
func TestModes(t *testing.T) {
	if os.Getuid() == 0 {
		rerunAsNobody(t, "^TestModes$")
		return
	}
	// A directory that may be passed and not read cannot be watched: the file
	// can. One that may not be passed can be watched. Without either, there is
	// the look each Poll.
	o := Options{Poll: 200 * time.Millisecond, Backstop: time.Hour}
	dir := filepath.Join(t.TempDir(), "etc")
	must(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "config.yaml")
	write(t, path, doc("1"))
	for _, c := range []struct {
		name   string
		path   string
		closed os.FileMode
		open   os.FileMode
	}{
		{"file", path, 0, 0o600},
		{"directory", dir, 0, 0o700},
		{"directory that may be read", dir, 0o600, 0o700},
	} {
		s := newSource(t, path, o)
		v := start(t, s, configsrc.Version{}).value("1")
		p := start(t, s, v)
		p.blocks(100 * time.Millisecond)
		must(t, os.Chmod(c.path, c.closed))
		v = p.fails(configsrc.ErrDenied)
		if v.IsZero() {
			t.Fatalf("%s: denied without a Version", c.name)
		}
		p = start(t, s, v)
		p.blocks(500 * time.Millisecond)
		must(t, os.Chmod(c.path, c.open))
		p.value("1")
	}
	must(t, os.Chmod(dir, 0o300))
	defer os.Chmod(dir, 0o700) //nolint:errcheck // for the removal
	s := newSource(t, path, o)
	v := start(t, s, configsrc.Version{}).value("1")
	p := start(t, s, v)
	p.blocks(100 * time.Millisecond)
	write(t, path, doc("2"))
	v = p.value("2")
	p = start(t, s, v)
	replaceFile(t, path, []byte(doc("3")), 0o600)
	p.value("3")
}

// TestSpecialFiles: what is no regular file is refused and not waited for.
func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(path string) error{
		"a named pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a socket": func(path string) error {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer syscall.Close(fd) //nolint:errcheck // a bare socket
			return syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
		},
		"a device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			must(t, at(path))
			s := newEventSource(t, path)
			p := start(t, s, configsrc.Version{})
			v := p.fails(configsrc.ErrInvalid)
			if !strings.Contains(p.err.Error(), "is "+name) {
				t.Errorf("it does not say %q: %v", name, p.err)
			}
			p = start(t, s, v)
			p.blocks(100 * time.Millisecond)
			must(t, os.Remove(path))
			replaceFile(t, path, []byte(doc("1")), 0o600)
			p.value("1")
		})
	}
}

// TestPipeUnderTheOpen: a pipe that takes the file's place between the look and
// the open neither blocks nor passes.
func TestPipeUnderTheOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, doc("1"))
	s := newSource(t, path, Options{})
	opens := s.sys.open
	s.sys.open = func(p string) (*os.File, error) {
		must(t, os.Remove(p))
		must(t, syscall.Mkfifo(p, 0o600))
		return opens(p)
	}
	p := start(t, s, configsrc.Version{})
	p.fails(configsrc.ErrInvalid)
	if !strings.Contains(p.err.Error(), "named pipe") {
		t.Errorf("got %v", p.err)
	}
}

// TestEqualDirectory: the file's directory is replaced in one step by one with
// an equal file, which is no news. The call that blocks goes on with the new one.
func TestEqualDirectory(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir, other := filepath.Join(top, "etc"), filepath.Join(top, "etc.new")
	path := filepath.Join(dir, "config.yaml")
	for _, d := range []string{dir, other} {
		must(t, os.Mkdir(d, 0o700))
		write(t, filepath.Join(d, "config.yaml"), doc("1"))
	}
	s := newEventSource(t, path)
	p := start(t, s, start(t, s, configsrc.Version{}).value("1"))
	p.blocks(100 * time.Millisecond)
	must(t, unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE))
	p.blocks(100 * time.Millisecond)
	write(t, filepath.Join(other, "config.yaml"), doc("not it"))
	p.blocks(100 * time.Millisecond)
	write(t, path, doc("2"))
	p.value("2")
}

// TestMountedFile: a file that is mounted alone, as containers do it. Writes
// show on the file itself and nowhere else.
func TestMountedFile(t *testing.T) {
	if os.Getenv(envMount) == "" {
		attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			attr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
			}
		}
		self, err := os.Executable()
		must(t, err)
		if err := exec.CommandContext(t.Context(), "true").Run(); err != nil {
			t.Fatalf("start a child: %v", err)
		}
		try := exec.CommandContext(t.Context(), self, "-test.run=^$")
		try.SysProcAttr = attr
		if err := try.Run(); err != nil {
			// Where mounts are not permitted there is still the half of it that
			// needs none: only the file is watched.
			t.Logf("no mounts here (%v): the file is watched through a directory that cannot be", err)
			rerun(t, self, "^TestModes$", nil)
			return
		}
		rerun(t, self, "^TestMountedFile$", attr, envMount+"=1")
		return
	}
	outside, inside := t.TempDir(), t.TempDir()
	origin, path := filepath.Join(outside, "origin"), filepath.Join(inside, "config.yaml")
	write(t, origin, doc("1"))
	write(t, path, "")
	must(t, syscall.Mount(origin, path, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { must(t, syscall.Unmount(path, syscall.MNT_DETACH)) })
	s := newEventSource(t, path)
	v := start(t, s, configsrc.Version{}).value("1")
	for n := range 3 {
		p := start(t, s, v)
		p.blocks(50 * time.Millisecond)
		write(t, origin, doc(fmt.Sprint("outside ", n)))
		v = p.value(fmt.Sprint("outside ", n))
	}
	// A rename outside leaves the mounted file as it is; that is how mounts are.
	p := start(t, s, v)
	replaceFile(t, origin, []byte(doc("another file")), 0o600)
	p.blocks(100 * time.Millisecond)
}

// TestSyntheticFile: a file of which only reading tells whether it has changed.
func TestSyntheticFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.properties")
	must(t, os.Symlink("/proc/self/comm", path))
	tr := traitsOf(path)
	if tr.events || tr.times {
		t.Fatalf("traits of /proc: %+v, want none", tr)
	}
	if tr := traitsOf("/sys"); tr.events || tr.times {
		t.Errorf("traits of /sys: %+v, want none", tr)
	}
	if tr := traitsOf(filepath.Dir(path)); !tr.events || !tr.times {
		t.Errorf("traits of a local directory: %+v, want all", tr)
	}
	// comm is writable, has no events, and keeps its size of 0.
	comm, err := os.ReadFile(path)
	must(t, err)
	t.Cleanup(func() { must(t, os.WriteFile(path, comm, 0o600)) })
	write(t, path, "a=1")
	s := newSource(t, path, Options{Poll: 50 * time.Millisecond, Backstop: time.Hour})
	v := start(t, s, configsrc.Version{}).value("1")
	p := start(t, s, v)
	p.blocks(200 * time.Millisecond)
	write(t, path, "a=2")
	p.value("2")
}
