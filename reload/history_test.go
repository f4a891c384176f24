package reload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHistoryIsBounded(t *testing.T) {
	s := openStore(t, t.TempDir())
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

// TestHugeChangesDoNotStopTheNextStart: entries stay small, however many keys
// changed or are unknown.
func TestHugeChangesDoNotStopTheNextStart(t *testing.T) {
	const keys = 9000
	var public, unknown strings.Builder
	public.WriteString("public:\n")
	for i := range keys {
		fmt.Fprintf(&public, "  %s%05d: 1\n", strings.Repeat("k", 120), i)
		fmt.Fprintf(&unknown, "some.unknown.section.with.a.longer.name.key%05d: 1\n", i)
	}
	dir := t.TempDir()
	r := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir; o.Strict = true })
	stop := r.start(t)
	e := r.reload(t, public.String())
	want(t, e, Applied)
	if len(e.Changed) != maxChanged || len(e.Changed)+e.ChangedMore != keys+2 {
		t.Errorf("%d keys changed and %d more", len(e.Changed), e.ChangedMore)
	}
	e = r.reload(t, unknown.String())
	want(t, e, Refused)
	if len(e.Reason) > maxReason+10 {
		t.Errorf("the reason has %d bytes", len(e.Reason))
	}
	stop()
	next := newRig(t, pairYAML(1), func(o *Options[settings]) { o.StateDir = dir })
	h := next.History()
	if len(h) != 3 || h[1].ChangedMore == 0 || h[2].Outcome != Refused {
		t.Errorf("the next process has %d entries", len(h))
	}
}

// TestHistoryKeepsTheContentsThatMatter: of every revision that an entry names,
// and of the one in force, however long ago that was written down.
func TestHistoryKeepsTheContentsThatMatter(t *testing.T) {
	s := openStore(t, t.TempDir())
	h, err := openHistory(s)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(n int64) string {
		c := testContent(n)
		data, err := encodeRecord("memory", c)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.keep(c.revision(), data); err != nil {
			t.Fatal(err)
		}
		return c.revision()
	}
	add := func(e Entry) {
		if _, err := h.add(e); err != nil {
			t.Fatal(err)
		}
	}
	nobodys, inPart, inForce := keep(1), keep(2), keep(3)
	for range 2 * maxEntries {
		add(Entry{Outcome: Failed})
	}
	add(Entry{Outcome: RestartRequired, InForce: inPart})
	for h.lines > maxEntries { // until it was compacted with that entry in it
		add(Entry{Outcome: Failed})
	}
	for name, revision := range map[string]string{"live part": inPart, "in force": inForce} {
		if _, _, err := h.content(revision); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := h.content(nobodys); !errors.Is(err, ErrNoRevision) {
		t.Errorf("the content that nothing names is still there: %v", err)
	}
}
