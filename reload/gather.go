package reload

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// handle takes in what a watcher has to say, and decides what follows.
func (m *Manager[T]) handle(ctx context.Context, u update) {
	problem, write := m.note(u)
	if write {
		problem = m.finish(problem, stages{}, rejectedParse)
	}
	if complete, due := u.count(problem); due {
		m.decideFor(ctx, complete, u.trigger())
	}
}

// note records what a watcher has to say. The entry tells why the source has
// no content; to people, content that does not parse was refused like any
// other, and that is to be written down when it is news.
func (m *Manager[T]) note(u update) (problem Entry, write bool) {
	news := m.record(u)
	switch {
	case u.err == nil:
		return Entry{}, false
	case errors.Is(u.err, configsrc.ErrInvalid):
		return m.sourceEntry(u, u.trigger(), Refused), news
	}
	return m.sourceEntry(u, u.trigger(), Failed), false
}

func (u update) trigger() Trigger {
	if len(u.waiting) > 0 {
		return TriggerReload
	}
	return TriggerChange
}

// count counts u as one source's answer to those who wait for all, and returns
// those that have them all now. A decision is due where nobody waits, or with
// the last answer.
func (u update) count(problem Entry) (complete []*rereading, due bool) {
	for _, r := range u.waiting {
		if rank(problem.Outcome) > rank(r.worst.Outcome) {
			r.worst = problem
		}
		if r.missing--; r.missing == 0 {
			complete = append(complete, r)
		}
	}
	return complete, len(complete) > 0 || len(u.waiting) == 0 && u.err == nil
}

// decideFor decides about the sources' content, and answers those who wait for
// that. They go on waiting where newer content has superseded it; where another
// process follows now, or none, they hear of that.
func (m *Manager[T]) decideFor(ctx context.Context, waiting []*rereading, trigger Trigger) {
	decided := m.evaluate(ctx, trigger)
	switch {
	case m.deferred.trigger != "":
		m.deferred.complete = append(waiting, m.deferred.complete...)
		return
	case decided.Outcome == RestartFailed && decided.ID == 0:
		return
	}
	for _, r := range waiting {
		if r.worst.Outcome != "" {
			r.result <- r.worst // what was asked for was not had
			continue
		}
		r.result <- decided
	}
}

func (m *Manager[T]) sourceEntry(u update, trigger Trigger, outcome Outcome) Entry {
	return Entry{
		At: time.Now().UTC(), Trigger: trigger, Outcome: outcome, Action: ActionNone,
		Reason: u.err.Error(), Changed: []string{},
	}.bound()
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
			text := "config source cannot be read"
			if m.state.snapshots[u.index] != nil {
				text += "; its last content stays in force"
			}
			m.log.Warn(text, "source", s.Name, "error", u.err) //nolint:sloglint // one of two
		}
		return news
	}
	if s.Stale {
		m.log.Info("config source is back", "source", s.Name, "stale_for", time.Since(s.StaleSince).Round(time.Millisecond).String())
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
		if m.mended() && m.tried.entry.Outcome.Good() {
			return m.finish(entry, stages{}, "") // what was wrong with a source is mended
		}
		return entry.bound()
	case missing >= 0:
		entry.Reason = "source " + m.watchers[missing].layer.Name + " has given no content yet"
		return entry.bound()
	case err != nil:
		m.retry.Stop()
		m.tried = tried{}
		if last := m.Status().Last; last.Outcome == Refused && last.Reason == err.Error() {
			return last // the same content again
		}
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
