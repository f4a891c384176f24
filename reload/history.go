package reload

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

const (
	historyDir   = "history"
	historyIndex = "history.jsonl"
	// The index is cut back to maxEntries when it holds twice as many.
	maxEntries    = 200
	maxIndexBytes = 64 << 20
)

// history is the list of changes: in memory, and in the state folder where
// there is one. The manager's goroutine is the only writer.
type history struct {
	store   *store
	entries []Entry // oldest first, at most maxEntries
	lines   int     // in the index file
	nextID  int64
	inForce string // the revision whose content must stay, however old
}

func newHistory(s *store) *history { return &history{store: s, nextID: 1} }

// openHistory reads what earlier processes wrote. A damaged line is dropped: a
// crash may have cut the last one short.
func openHistory(s *store) (*history, error) {
	h := newHistory(s)
	if s == nil {
		return h, nil
	}
	f, err := os.Open(filepath.Join(s.dir, historyIndex))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewReader(io.LimitReader(f, maxIndexBytes))
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			h.lines++
			var e Entry
			if json.Unmarshal(line, &e) == nil && e.ID > 0 {
				h.remember(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return h, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
	}
}

func (h *history) remember(e Entry) {
	h.entries = append(h.entries, e)
	if extra := len(h.entries) - maxEntries; extra > 0 {
		h.entries = slices.Delete(h.entries, 0, extra)
	}
	h.nextID = max(h.nextID, e.ID+1)
}

// add numbers an entry and writes it down. The entry counts even when the
// writing fails: a full disk must not stop a change.
func (h *history) add(e Entry) (Entry, error) {
	e.ID = h.nextID
	h.remember(e)
	if h.store == nil {
		return e, nil
	}
	if h.lines >= 2*maxEntries {
		return e, h.compact()
	}
	line, err := json.Marshal(e)
	if err != nil {
		return e, fmt.Errorf("encode history entry: %w", err)
	}
	// The line break comes first too: a line that a crash cut short must not
	// swallow this one.
	if err := h.store.append(historyIndex, slices.Concat([]byte("\n"), line, []byte("\n"))); err != nil {
		return e, fmt.Errorf("write history: %w", err)
	}
	h.lines++
	return e, nil
}

// compact rewrites the index and removes the contents nobody refers to.
func (h *history) compact() error {
	var b bytes.Buffer
	kept := map[string]bool{h.inForce: true}
	for _, e := range h.entries {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode history entry: %w", err)
		}
		b.Write(line)
		b.WriteByte('\n')
		kept[e.Revision], kept[e.InForce] = true, true
	}
	if err := h.store.write(historyIndex, b.Bytes()); err != nil {
		return err
	}
	h.lines = len(h.entries)
	dir := filepath.Join(h.store.dir, historyDir)
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean history: %w", err)
	}
	for _, f := range files {
		if rev, ok := strings.CutSuffix(f.Name(), ".json"); !ok || !kept[rev] {
			err = errors.Join(err, h.store.remove(filepath.Join(historyDir, f.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("clean history: %w", err)
	}
	return nil
}

// keep stores the record of a content that came into force, for rollbacks.
func (h *history) keep(revision string, record []byte) error {
	h.inForce = revision
	name := filepath.Join(historyDir, revision+".json")
	if _, err := os.Stat(filepath.Join(h.store.dir, name)); err == nil {
		return nil // the name is the content's hash
	}
	return h.store.write(name, record)
}

// ErrNoRevision is returned for a revision of which no content is kept.
var ErrNoRevision = errors.New("no content of this revision is kept")

var revisionName = regexp.MustCompile(`^[0-9a-f]{12}$`)

// content reads a stored content back. The name is checked, since it comes
// from a person and becomes a path.
func (h *history) content(revision string) (record, configsrc.Values, error) {
	if !revisionName.MatchString(revision) {
		return record{}, nil, fmt.Errorf("revision %q: %w: a revision has 12 hex digits", revision, ErrNoRevision)
	}
	r, values, err := h.store.load(filepath.Join(historyDir, revision+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil, fmt.Errorf("revision %s: %w", revision, ErrNoRevision)
	}
	return r, values, err
}
