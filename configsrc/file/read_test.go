package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// TestPublished: it is the time of the change where the file's times can tell
// that, and zero where they tell of another change.
func TestPublished(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	path := filepath.Join(top, "config.yaml")
	write(t, path, doc("1"))
	s := newSource(t, path, Options{})
	tellsChange := sightOf(mustStat(t, path)).changed != 0
	p := start(t, s, configsrc.Version{})
	v := p.value("1")
	// Clocks of file systems lag by some milliseconds.
	const lag = 50 * time.Millisecond
	within := func(what string, from time.Time) {
		t.Helper()
		if at := p.snap.Published; at.Before(from.Add(-lag)) || at.After(p.snap.Notified) {
			t.Errorf("%s: Published %v, want between %v and Notified, %v", what, at, from, p.snap.Notified)
		}
	}
	p = start(t, s, v)
	p.blocks(50 * time.Millisecond)
	began := time.Now()
	write(t, path, doc("2"))
	v = p.value("2")
	within("written", began)

	old := filepath.Join(top, "old")
	write(t, old, doc("3"))
	yesterday := began.Add(-24 * time.Hour)
	must(t, os.Chtimes(old, yesterday, yesterday))
	p = start(t, s, v)
	p.blocks(50 * time.Millisecond)
	began = time.Now()
	must(t, os.Rename(old, path))
	v = p.value("3")
	if tellsChange {
		within("an old file moved to the path", began)
	} else if !p.snap.Published.IsZero() {
		t.Errorf("an old file moved to the path: Published %v, want zero", p.snap.Published)
	}
	start(t, s, v).blocks(50 * time.Millisecond)
}

func TestPublishedByTheFilesTimes(t *testing.T) {
	t.Parallel()
	told := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	fetched := told.Add(10 * time.Millisecond)
	for name, c := range map[string]struct {
		modified, changed time.Time
		published         time.Time
		notified          time.Time
	}{
		"written":                     {told.Add(-2), told.Add(-1), told.Add(-1), told},
		"times set to the future":     {told.Add(time.Hour), told.Add(-1), time.Time{}, told},
		"no change time":              {told.Add(-1), time.Unix(0, 0), told.Add(-1), told},
		"no change time, old":         {told.Add(-time.Hour), time.Unix(0, 0), time.Time{}, told},
		"old file moved":              {told.Add(-time.Hour), told.Add(-1), told.Add(-1), told},
		"a minute":                    {told.Add(-time.Minute), told.Add(-time.Minute), told.Add(-time.Minute), told},
		"more than a minute":          {told.Add(-time.Minute - 1), told.Add(-time.Minute - 1), time.Time{}, told},
		"written after the signal":    {told.Add(5), told.Add(5), told.Add(5), told.Add(5)},
		"after the read: other clock": {fetched.Add(1), fetched.Add(1), time.Time{}, told},
	} {
		snap := configsrc.Snapshot{Notified: told, Fetched: fetched}
		sight{modified: c.modified.UnixNano(), changed: c.changed.UnixNano()}.date(&snap)
		if !snap.Published.Equal(c.published) || !snap.Notified.Equal(c.notified) {
			t.Errorf("%s: Published %v, Notified %v; want %v, %v", name, snap.Published, snap.Notified, c.published, c.notified)
		}
	}
}

func mustStat(tb testing.TB, path string) os.FileInfo {
	tb.Helper()
	info, err := os.Stat(path)
	must(tb, err)
	return info
}

// TestEmptyFile: what is empty is an error with a way out, and what says that
// there are no settings is a content.
func TestEmptyFile(t *testing.T) {
	t.Parallel()
	const empty = ""
	for _, c := range []struct {
		ext, data string
		say       string // empty: a content without keys
	}{
		{".yaml", "", "the file is empty: write {} if no setting is meant"},
		{".yaml", " \t\r\n\n", "the file is empty: write {} if no setting is meant"},
		{".yaml", "\uFEFF\n", "the file is empty: write {} if no setting is meant"},
		{".json", "\n", "the file is empty: write {} if no setting is meant"},
		{".toml", "", "the file is empty: write a comment if no setting is meant"},
		{".properties", "\n", "the file is empty: write a comment if no setting is meant"},
		{".yaml", "{}", empty},
		{".yaml", "# none\n", empty},
		{".json", "{}", empty},
		{".toml", "# none\n", empty},
		{".properties", "# none\n", empty},
	} {
		path := filepath.Join(t.TempDir(), "config"+c.ext)
		write(t, path, c.data)
		snap, err := newSource(t, path, Options{}).Next(t.Context(), configsrc.Version{})
		if c.say == empty {
			if err != nil || len(snap.Values) != 0 || snap.Version.Content != (configsrc.Values{}).Hash() {
				t.Errorf("%s %q: %v, %v; want a content without keys", c.ext, c.data, snap.Values.Keys(), err)
			}
			continue
		}
		e, ok := errors.AsType[*configsrc.Error](err)
		if !ok || !errors.Is(err, configsrc.ErrInvalid) || e.Version.IsZero() || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s %q: %v; want ErrInvalid, with a Version, that says %q", c.ext, c.data, err, c.say)
		}
	}
	// It differs from all texts that do not parse, and not from other empty files.
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "")
	s := newEventSource(t, path)
	v := start(t, s, configsrc.Version{}).fails(configsrc.ErrInvalid)
	p := start(t, s, v)
	write(t, path, "\n\n")
	p.blocks(100 * time.Millisecond)
	for _, text := range []string{"empty", "too large"} {
		replaceFile(t, path, []byte(text), 0o600)
		select {
		case <-p.done:
		case <-time.After(soon):
			t.Fatalf("the text %q is taken for an empty file", text)
		}
		v = p.fails(configsrc.ErrInvalid)
		p = start(t, s, v)
	}
	write(t, path, doc("1"))
	p.value("1")
}
