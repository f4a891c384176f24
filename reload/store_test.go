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
			s, err := newStore(dir)
			if err != nil {
				t.Fatal(err)
			}
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

func TestColdStart(t *testing.T) {
	prepare := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		s, err := newStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		saveLastGood(t, s, 7)
		return dir
	}
	t.Run("source without content", func(t *testing.T) {
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = prepare(t) })
		r.source.fail(configsrc.ErrNotFound, "gone")
		r.start(t)
		st := r.Status()
		if r.Load().Config.Pair.A != 7 || !st.Sources[0].Stale || !strings.Contains(st.Fallback, "not found") {
			t.Errorf("status %+v", st)
		}
		if !strings.Contains(r.logs.String(), "started from the last good configuration") {
			t.Error("the log does not say so")
		}
		want(t, r.reload(t, pairYAML(8)), Applied)
		if st := r.Status(); st.Fallback != "" || st.Sources[0].Stale || r.Load().Config.Pair.A != 8 {
			t.Errorf("status %+v after the source came", st)
		}
	})
	for name, kind := range map[string]error{"unreadable": configsrc.ErrDenied, "does not parse": configsrc.ErrInvalid} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", func(o *Options[settings]) { o.StateDir = prepare(t) })
			r.source.fail(kind, "state")
			r.start(t)
			if st := r.Status(); r.Load().Config.Pair.A != 7 || !st.Sources[0].Stale || !strings.Contains(st.Fallback, kind.Error()) {
				t.Errorf("status %+v", st)
			}
		})
	}
	t.Run("source cannot be reached in time", func(t *testing.T) {
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = prepare(t); o.StartTimeout = 300 * 1e6 })
		r.source.fail(nil, "")
		r.start(t)
		if r.Load().Config.Pair.A != 7 {
			t.Errorf("config %+v", r.Load().Config)
		}
	})
	t.Run("content is refused", func(t *testing.T) {
		r := newRig(t, "pair: {a: 1, b: 2}", func(o *Options[settings]) { o.StateDir = prepare(t) })
		r.start(t)
		st := r.Status()
		if r.Load().Config.Pair.A != 7 || st.Last.Outcome != Refused || !strings.Contains(st.Fallback, "must be the same") {
			t.Errorf("status %+v", st)
		}
		want(t, r.reread(t), Refused)
		want(t, r.reload(t, pairYAML(7)+"plain: "+strings.Repeat("x", 10_000)), Unchanged)
		if st := r.Status(); st.Fallback != "" || !st.Last.Outcome.Good() {
			t.Errorf("status %+v after the same content came live", st)
		}
	})
	t.Run("without last good it fails and says why", func(t *testing.T) {
		r := newRig(t, "", func(o *Options[settings]) { o.StateDir = t.TempDir() })
		r.source.fail(configsrc.ErrNotFound, "gone")
		err := r.Start(t.Context())
		if !errors.Is(err, configsrc.ErrNotFound) || !strings.Contains(err.Error(), "no last good configuration") {
			t.Errorf("Start: %v", err)
		}
	})
	for name, damage := range map[string]struct {
		change func(string) string
		says   string
	}{
		"checksum":       {func(s string) string { return strings.Replace(s, `"7"`, `"8"`, 1) }, "checksum"},
		"cut short":      {func(s string) string { return s[:len(s)/2] }, "damaged"},
		"other format":   {func(s string) string { return strings.Replace(s, `"format":1`, `"format":9`, 1) }, "format 9"},
		"another source": {func(s string) string { return strings.Replace(s, "memory here", "memory there", 1) }, "another source: memory there"},
		"empty":          {func(string) string { return "" }, "damaged"},
	} {
		t.Run("last good "+name, func(t *testing.T) {
			dir := prepare(t)
			path := filepath.Join(dir, lastGoodFile)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := damage.change(string(data))
			if changed == string(data) {
				t.Fatal("the damage changed nothing")
			}
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			r := newRig(t, "", func(o *Options[settings]) { o.StateDir = dir })
			r.source.fail(configsrc.ErrNotFound, "gone")
			if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), damage.says) {
				t.Errorf("Start: %v", err)
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

func TestHistoryIsBounded(t *testing.T) {
	s, err := newStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHistory(s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3*maxEntries + 50) {
		c := testContent(i)
		data, err := encodeRecord("memory", c)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.keep(c.revision(), data); err != nil {
			t.Fatal(err)
		}
		if _, err := h.add(Entry{Revision: c.revision(), Outcome: Applied, Changed: []string{}}); err != nil {
			t.Fatal(err)
		}
	}
	// A crash in the middle of a line must not cost the next one.
	f, err := os.OpenFile(filepath.Join(s.dir, historyIndex), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":99999,"outc`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if _, err := h.add(Entry{Outcome: Refused, Changed: []string{}}); err != nil {
		t.Fatal(err)
	}
	again, err := openHistory(s)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(again.entries); n != maxEntries || again.nextID != 3*maxEntries+52 {
		t.Errorf("%d entries, next %d", n, again.nextID)
	}
	if last := again.entries[maxEntries-1]; last.Outcome != Refused || last.ID != 3*maxEntries+51 {
		t.Errorf("last %+v", last)
	}
	files, err := os.ReadDir(filepath.Join(s.dir, historyDir))
	if err != nil || len(files) > 2*maxEntries+1 {
		t.Errorf("%d contents kept, %v", len(files), err)
	}
	oldest := again.entries[0]
	if _, values, err := again.content(oldest.Revision); err != nil || len(values) == 0 {
		t.Errorf("content of the oldest entry: %v", err)
	}
}
