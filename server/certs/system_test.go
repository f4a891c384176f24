package certs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hotsvc/svc/configsrc"
)

// await fails when the certificate is not in force well before a reread, which
// would find it too.
func await(tb testing.TB, s *Store, subject string) {
	tb.Helper()
	deadline := time.Now().Add(reread - 5*time.Second)
	for s.Load().Subject() != "CN="+subject {
		if time.Now().After(deadline) {
			tb.Fatalf("in force is %s, want %s", s.Load().Subject(), subject)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Each way in which programs replace files is noticed, twice in a row: the watch
// goes along with the links.
func TestRealFiles(t *testing.T) {
	write := func(t *testing.T, dir string, c Config) {
		t.Helper()
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "cert"), []byte(c.Cert), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "key"), []byte(c.Key), 0o600))
	}
	relink := func(t *testing.T, target, path string) {
		t.Helper()
		link(t, target, path+"~")
		must(t, os.Rename(path+"~", path))
	}
	// Each returns where the config points; put replaces what is there.
	ways := map[string]func(t *testing.T, dir string) (at string, put func(n string, c Config)){
		"truncate and write": func(t *testing.T, dir string) (string, func(string, Config)) {
			t.Helper()
			return dir, func(_ string, c Config) { write(t, dir, c) }
		},
		"rename": func(t *testing.T, dir string) (string, func(string, Config)) {
			t.Helper()
			return dir, func(_ string, c Config) {
				for name, text := range map[string]string{"cert": c.Cert, "key": string(c.Key)} {
					must(t, os.WriteFile(filepath.Join(dir, name+"~"), []byte(text), 0o600))
					must(t, os.Rename(filepath.Join(dir, name+"~"), filepath.Join(dir, name)))
				}
			}
		},
		"remove and create": func(t *testing.T, dir string) (string, func(string, Config)) {
			t.Helper()
			return dir, func(_ string, c Config) {
				_ = os.Remove(filepath.Join(dir, "cert"))
				_ = os.Remove(filepath.Join(dir, "key"))
				write(t, dir, c)
			}
		},
		"a volume of Kubernetes": func(t *testing.T, dir string) (string, func(string, Config)) {
			t.Helper()
			old := ""
			return dir, func(n string, c Config) {
				write(t, filepath.Join(dir, ".."+n), c)
				relink(t, ".."+n, filepath.Join(dir, "..data"))
				if old == "" {
					link(t, filepath.Join("..data", "cert"), filepath.Join(dir, "cert"))
					link(t, filepath.Join("..data", "key"), filepath.Join(dir, "key"))
				} else {
					must(t, os.RemoveAll(filepath.Join(dir, ".."+old)))
				}
				old = n
			}
		},
		"links between two folders": func(t *testing.T, dir string) (string, func(string, Config)) {
			t.Helper()
			live := filepath.Join(dir, "live")
			must(t, os.Mkdir(live, 0o700))
			// One more link in front, as a program's own folder may have it.
			own := filepath.Join(dir, "own")
			must(t, os.Mkdir(own, 0o700))
			link(t, filepath.Join(live, "cert"), filepath.Join(own, "cert"))
			link(t, filepath.Join(live, "key"), filepath.Join(own, "key"))
			return own, func(n string, c Config) {
				write(t, filepath.Join(dir, "archive", n), c)
				relink(t, filepath.Join("..", "archive", n, "cert"), filepath.Join(live, "cert"))
				relink(t, filepath.Join("..", "archive", n, "key"), filepath.Join(live, "key"))
			}
		},
		"a link above the folder": func(t *testing.T, dir string) (string, func(string, Config)) {
			t.Helper()
			return filepath.Join(dir, "current", "tls"), func(n string, c Config) {
				write(t, filepath.Join(dir, n, "tls"), c)
				relink(t, n, filepath.Join(dir, "current"))
			}
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority("authority")
			at, put := way(t, t.TempDir())
			put("zero", ca.config("zero"))
			var log journal
			s, err := Open(t.Context(), Config{
				Cert: "file:" + filepath.Join(at, "cert"),
				Key:  configsrc.Secret("file:" + filepath.Join(at, "key")),
			}, Options{Logger: log.logger()})
			must(t, err)
			for _, n := range []string{"one", "two", "three"} {
				put(n, ca.config(n))
				await(t, s, n)
			}
			must(t, s.Close())
			log.want(t, 3, logSwap)
		})
	}
}

// A certificate and its key may be moved to a folder that comes later.
func TestRemovedFolder(t *testing.T) {
	ca := newAuthority("authority")
	dir := filepath.Join(t.TempDir(), "tls")
	must(t, os.Mkdir(dir, 0o700))
	c := inFiles(t, dir, ca.config("one"))
	s, err := Open(t.Context(), c, Options{})
	must(t, err)
	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	inFiles(t, dir, ca.config("two"))
	await(t, s, "two")
	// The watch is on the new folder.
	inFiles(t, dir, ca.config("three"))
	await(t, s, "three")
	must(t, s.Close())
}

func TestPlaces(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	in := func(names ...string) []string {
		for i, n := range names {
			names[i] = filepath.Join(dir, filepath.FromSlash(n))
		}
		return names
	}
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	link(t, filepath.Join("a", "b"), filepath.Join(dir, "short"))
	link(t, filepath.Join("..", "x"), filepath.Join(dir, "a", "b", "up"))
	link(t, "loop", filepath.Join(dir, "loop"))
	tests := []struct {
		name  string
		paths []string
		want  []string
	}{
		{"no link, two files", in("a/y", "a/x"), in("a/x", "a/y")},
		{"missing", in("none/x"), in("none/x")},
		{"up from where a link leads", in("short/up"), in("a/b/up", "a/x", "short")},
		{"a loop", in("loop"), in("loop")},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, places(test.paths)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}
