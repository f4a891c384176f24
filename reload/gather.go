package reload

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// handle takes in what a watcher has to say and answers those who asked it.
func (m *Manager[T]) handle(ctx context.Context, u update) {
	trigger := TriggerChange
	if len(u.waiting) > 0 {
		trigger = TriggerReload
	}
	news := m.record(u)
	var entry Entry
	switch {
	case u.err == nil:
		entry = m.evaluate(ctx, trigger)
	case errors.Is(u.err, configsrc.ErrInvalid):
		entry = m.sourceEntry(u, trigger, Refused)
		if news {
			// To people, content that does not parse was refused like any other.
			m.finish(entry, stages{}, rejectedParse)
		}
	default:
		entry = m.sourceEntry(u, trigger, Failed)
	}
	for _, reply := range u.waiting {
		reply <- entry // has room
	}
}

func (m *Manager[T]) sourceEntry(u update, trigger Trigger, outcome Outcome) Entry {
	return Entry{
		At: time.Now().UTC(), Trigger: trigger, Outcome: outcome, Action: ActionNone,
		Reason: u.err.Error(), Changed: []string{},
	}
}

// record notes a source's state. It reports whether an error is news.
func (m *Manager[T]) record(u update) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.state.sources[u.index]
	if u.err != nil {
		text := u.err.Error()
		news := s.Error != text
		if s.StaleSince.IsZero() {
			s.StaleSince = time.Now().UTC()
		}
		s.Stale, s.Error = true, text
		if news {
			m.log.Warn("config source: its last content stays in force", "source", s.Name, "error", u.err)
		}
		return news
	}
	if s.Stale {
		m.log.Info("config source is back", "source", s.Name, "stale_for", time.Since(s.StaleSince).Round(time.Millisecond))
	}
	snapshot := u.snapshot
	snapshot.Values = m.schema.resolveAliases(snapshot.Values)
	m.state.snapshots[u.index] = &snapshot
	s.Stale, s.StaleSince, s.Error = false, time.Time{}, ""
	s.Label, s.FetchedAt, s.Keys = snapshot.Label, snapshot.Fetched.UTC(), len(snapshot.Values)
	return false
}

// gather lays the sources' last snapshots over each other.
func (m *Manager[T]) gather() (content, stages, error) {
	m.mu.Lock()
	snapshots := slices.Clone(m.state.snapshots)
	m.mu.Unlock()
	return m.merge(snapshots)
}

func (m *Manager[T]) merge(snapshots []*configsrc.Snapshot) (content, stages, error) {
	layers := make([]configsrc.Values, len(snapshots))
	labels := map[string]string{}
	var newest configsrc.Snapshot
	for i, s := range snapshots {
		if s == nil {
			continue
		}
		layers[i] = s.Values
		if s.Label != "" {
			labels[m.watchers[i].layer.Name] = s.Label
		}
		if s.Fetched.After(newest.Fetched) {
			newest = *s
		}
	}
	st := stages{published: newest.Published, notified: newest.Notified, fetched: newest.Fetched}
	sourced, err := configsrc.Merge(layers...)
	if err != nil {
		return content{labels: labels}, st, err
	}
	c, err := newContent(sourced, m.fixed, labels)
	return c, st, err
}

// evaluate decides about the sources' content as it is now.
func (m *Manager[T]) evaluate(ctx context.Context, trigger Trigger) Entry {
	m.mu.Lock()
	pin := m.state.pin
	missing := slices.Index(m.state.snapshots, nil)
	m.mu.Unlock()
	c, st, err := m.gather()
	entry := Entry{At: time.Now().UTC(), Trigger: trigger, Outcome: Unchanged, Action: ActionNone, Changed: []string{}, Sources: c.labels}
	switch {
	case pin != nil:
		entry.Revision = pin.revision()
		entry.Reason = "pinned to revision " + pin.revision() + " by a rollback; resume to follow the sources again"
		return entry
	case missing >= 0:
		entry.Reason = "source " + m.watchers[missing].layer.Name + " has given no content yet"
		return entry
	case err != nil:
		return m.refuse(entry, st, rejectedMerge, err)
	}
	entry = m.decide(ctx, c, trigger, st)
	if entry.Outcome != Refused && entry.Outcome != Failed {
		m.mu.Lock()
		m.state.fallback = ""
		m.mu.Unlock()
	}
	return entry
}
