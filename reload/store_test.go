package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotsvc/svc/configsrc"
)

const (
	childDir  = "RELOAD_TEST_CHILD_DIR"
	childStep = "RELOAD_TEST_CHILD_STEP"
)

// runAsChild is the other side of TestKillAtEachStep: it saves a new last good
// and is killed at the step it was told.
func runAsChild() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	s := &store{dir: dir, step: func(name string) {
		if name != os.Getenv(childStep) {
			return
		}
		if self, err := os.FindProcess(os.Getpid()); err == nil && self.Kill() == nil {
			select {} // the end is on its way
		}
	}}
	data, err := encodeRecord("memory here", testContent(2))
	if err == nil {
		err = s.write(lastGoodFile, data)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// openStore opens a state folder for writing.
func openStore(t *testing.T, dir string) *store {
	t.Helper()
	s := newStore(dir)
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	return s
}

func testContent(n int64) content {
	values := configsrc.Values{"pair.a": {Raw: n}, "pair.b": {Raw: n}, "plain": {Raw: strings.Repeat("x", 10_000)}}
	return content{sourced: values, full: values, hash: values.Hash()}
}

func saveLastGood(t *testing.T, s *store, n int64) {
	t.Helper()
	data, err := encodeRecord("memory here", testContent(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.write(lastGoodFile, data); err != nil {
		t.Fatal(err)
	}
}

func TestKillAtEachStep(t *testing.T) {
	steps := []string{"created", "half written", "written", "synced", "renamed", "done", "never"}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			saveLastGood(t, s, 1)
			child := exec.CommandContext(t.Context(), os.Args[0])
			child.Env = append(os.Environ(), childDir+"="+dir, childStep+"="+step)
			out, err := child.CombinedOutput()
			var exit *exec.ExitError
			killed := errors.As(err, &exit) && exit.ExitCode() != 1 && len(out) == 0
			if killed != (step != "never") {
				t.Fatalf("child: %v %s", err, out)
			}
			_, values, err := s.load(lastGoodFile)
			if err != nil {
				t.Fatalf("after a kill at %q: %v", step, err)
			}
			wantN := int64(1)
			if step == "renamed" || step == "done" || step == "never" {
				wantN = 2
			}
			if got := values["pair.a"].Raw; got != wantN {
				t.Errorf("after a kill at %q: pair.a = %v, want %d", step, got, wantN)
			}
			// And a start works with what is there.
			r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir })
			r.source.fail(configsrc.ErrNotFound, "gone")
			r.start(t)
			if got := r.Load().Config.Pair.A; int64(got) != wantN {
				t.Errorf("started with %d", got)
			}
		})
	}
}

func TestStateIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
	r.start(t)
	want(t, r.reload(t, pairYAML(2)), Applied)
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		wantMode := fs.FileMode(0o600)
		if d.IsDir() {
			wantMode = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != wantMode {
			t.Errorf("%s has mode %v", path, info.Mode().Perm())
		}
		if strings.Contains(path, ".tmp-") {
			t.Errorf("%s was left behind", path)
		}
		return nil
	})
	if err != nil || files != 4 { // last good, index, two contents
		t.Errorf("%d files, %v", files, err)
	}
}

func TestLastGoodIsWrittenOnlyAfterSuccess(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
	r.start(t)
	want(t, r.reload(t, "pair: {a: 1, b: 2}"), Refused)
	want(t, r.reload(t, pairYAML(3)+"workers: 9"), RestartRequired)
	_, values, err := r.store.load(lastGoodFile)
	if err != nil {
		t.Fatal(err)
	}
	// What is in force: the new pair, without the workers.
	if values["pair.a"].Raw != int64(3) || len(values) != 2 {
		t.Errorf("last good has %v", values.Keys())
	}
}
