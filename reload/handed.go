package reload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

const (
	handedFormat = 1
	// What goes before the record is at most this long: an entry at its limits.
	maxHandedHead = 8 << 20
)

// handedHead is the first line of a content as it is handed to another process;
// after it comes the content's record, as on disk.
type handedHead struct {
	Format int `json:"format"`
	// Entry is what became of a change that needed the process. It writes the
	// entry down when it runs, and completes the stages with these times.
	Entry     *Entry    `json:"entry,omitempty"`
	Published time.Time `json:"published,omitzero"`
	Notified  time.Time `json:"notified,omitzero"`
	Fetched   time.Time `json:"fetched,omitzero"`
	// Fallback is Status.Fallback.
	Fallback string `json:"fallback,omitempty"`
}

// encodeHanded writes a content for another process; entry may be nil.
func (m *Manager[T]) encodeHanded(c content, entry *Entry, st stages) ([]byte, error) {
	data, err := encodeRecord(m.identity, c)
	if err != nil {
		return nil, err
	}
	head := handedHead{Format: handedFormat, Published: st.published, Notified: st.notified, Fetched: st.fetched}
	if entry != nil {
		restarted := entry.bound()
		head.Entry = &restarted
	}
	m.mu.Lock()
	head.Fallback = m.state.fallback
	m.mu.Unlock()
	line, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("encode content for another process: %w", err)
	}
	return slices.Concat(line, []byte{'\n'}, data), nil
}

// decodeHanded reads what encodeHanded wrote, of this version of the program or
// an older one.
func decodeHanded(data []byte) (handedHead, record, configsrc.Values, error) {
	const where = "the handed configuration"
	fail := func(err error) (handedHead, record, configsrc.Values, error) {
		return handedHead{}, record{}, nil, err
	}
	line, rest, _ := bytes.Cut(data, []byte{'\n'})
	if len(line) > maxHandedHead {
		return fail(fmt.Errorf("%s has a first line of more than %d bytes", where, maxHandedHead))
	}
	// The format first: another one may have anything in the other fields.
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(line, &format); err != nil {
		return fail(fmt.Errorf("%s is damaged: its first line is no JSON", where))
	}
	if format.Format != handedFormat {
		return fail(fmt.Errorf("%s has format %d, this program reads %d", where, format.Format, handedFormat))
	}
	var head handedHead
	if err := json.Unmarshal(line, &head); err != nil {
		return fail(fmt.Errorf("%s is damaged: its first line is not of format %d", where, handedFormat))
	}
	r, values, err := decodeRecord(rest, where)
	if err != nil {
		return fail(err)
	}
	if e := head.Entry; e != nil {
		e.Outcome, e.Action = Restarted, ActionRestart
		if e.Changed == nil {
			e.Changed = []string{}
		}
	}
	return head, r, values, nil
}

// inherited is what a process was started with, besides the content, until its
// Run begins.
type inherited struct {
	entry  *Entry
	stages stages
}

// startHanded brings the content of another process into force. It asks no
// source and writes nothing: the other process still follows, and may go on to.
func (m *Manager[T]) startHanded(ctx context.Context) error {
	head, r, values, err := decodeHanded(m.options.Handed)
	if err != nil {
		return err
	}
	if r.Identity != m.identity {
		return fmt.Errorf("the handed configuration is of another source: %s", r.Identity)
	}
	c, err := m.storedContent(r, values)
	if err != nil {
		return fmt.Errorf("the handed configuration does not fit the settings above it: %w", err)
	}
	config, unknown, _, err := m.decode(c.full)
	if err != nil {
		return fmt.Errorf("the handed configuration is refused: %w", err)
	}
	if len(unknown) > 0 {
		m.warnUnknown(unknown)
	}
	next := m.newRevision(c, config)
	if err := m.buildRevision(ctx, next); err != nil {
		return fmt.Errorf("start with the handed configuration: %w", err)
	}
	built := time.Now()
	m.swap(next)
	m.mu.Lock()
	m.state.fallback = head.Fallback
	m.mu.Unlock()
	m.inherited = &inherited{head.Entry, stages{published: head.Published, notified: head.Notified, fetched: head.Fetched, built: built}}
	m.tried = tried{content: c, entry: Entry{Revision: c.revision(), Outcome: Unchanged}}
	m.probation = m.options.Settled
	for _, w := range m.watchers {
		w.keys = max(1, len(values)) // that a source is empty now is not taken from one reading
	}
	return nil
}

// takeOver makes this process the one that writes to the state folder, and
// writes down how it came to be.
func (m *Manager[T]) takeOver() {
	follows, err := m.handover.open()
	if !follows {
		return // it was suspended already
	}
	in := m.inherited
	m.inherited = nil
	history, historyErr := openHistory(m.store)
	if err := errors.Join(err, historyErr); err != nil {
		m.log.Warn("config history", "error", err)
	}
	if historyErr == nil {
		m.useHistory(history)
	}
	m.loadPin()
	current := m.Load()
	if in.entry != nil {
		// Without a folder, the number is all that is known of the entries before.
		m.history.nextID = max(m.history.nextID, in.entry.ID)
		in.stages.applied = time.Now()
		m.tried.entry = m.finish(*in.entry, in.stages, "")
	} else {
		m.metrics.inherit(m.Status().Last, current.ID)
		m.log.Info("config was taken over from another process", "revision", current.ID)
	}
	m.save(current.content)
	m.tryPin()
}
