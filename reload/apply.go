package reload

import (
	"context"
	"errors"
	"log/slog"
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
	missing := slices.Contains(m.state.snapshots, nil)
	m.mu.Unlock()
	c, st, err := m.gather()
	entry := Entry{At: time.Now().UTC(), Trigger: trigger, Outcome: Unchanged, Action: ActionNone, Changed: []string{}, Sources: c.labels}
	switch {
	case pin != nil:
		entry.Revision = pin.revision()
		entry.Reason = "pinned to revision " + pin.revision() + " by a rollback; resume to follow the sources again"
		return entry
	case missing:
		entry.Reason = "another source has given no content yet"
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

// decide applies a content unless it is the one in force, or one that was
// decided about already and would only end the same way.
func (m *Manager[T]) decide(ctx context.Context, c content, trigger Trigger, st stages) Entry {
	current := m.Load()
	if current != nil && current.content.hash == c.hash {
		entry := Entry{
			At: time.Now().UTC(), Revision: current.ID, Trigger: trigger, Outcome: Unchanged, Action: ActionNone,
			Changed: []string{}, Sources: c.labels,
		}
		m.retry.Stop()
		m.tried = tried{content: c, entry: entry}
		if m.lastIsBad() || trigger == TriggerRollback {
			entry.Reason = "the content is the one in force"
			entry = m.finish(entry, stages{}, "")
		}
		return entry
	}
	if current != nil && m.tried.content.hash == c.hash && m.sameEnd(trigger) {
		if m.lastID() != m.tried.entry.ID {
			// Something else went wrong in between; this is what counts again.
			m.tried.entry = m.finish(m.tried.entry, stages{}, "")
		}
		return m.tried.entry
	}
	if m.tried.content.hash != c.hash {
		m.tried = tried{content: c}
	}
	m.retry.Stop()
	entry := m.apply(ctx, c, trigger, st)
	m.tried.entry = entry
	return entry
}

// sameEnd reports whether trying the content of m.tried again is in vain, or
// not due yet.
func (m *Manager[T]) sameEnd(trigger Trigger) bool {
	switch m.tried.entry.Outcome {
	case Refused, RestartRequired:
		return true
	case Failed, RestartFailed:
		return trigger == TriggerChange // the retry timer runs
	case Applied, Unchanged, Restarted:
		// It was replaced by another content since.
	}
	return false
}

func (m *Manager[T]) lastID() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.last.ID
}

func (m *Manager[T]) lastIsBad() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.last.Outcome != "" && !m.state.last.Outcome.Good()
}

// apply decodes, checks and builds a content and brings it into force: in
// place, by a restart, or as far as it goes without one.
func (m *Manager[T]) apply(ctx context.Context, c content, trigger Trigger, st stages) Entry {
	entry := Entry{
		At: time.Now().UTC(), Revision: c.revision(), Trigger: trigger, Action: ActionNone,
		Changed: []string{}, Sources: c.labels,
	}
	config, unknown, reason, err := m.decode(c.full)
	if err == nil && len(unknown) > 0 {
		m.warnUnknown(unknown)
	}
	if err != nil {
		return m.refuse(entry, st, reason, err)
	}
	next := m.newRevision(c, config)
	current := m.Load()
	if current == nil {
		return m.applyInPlace(ctx, next, entry, st)
	}
	entry.Changed = append(entry.Changed, next.effective.diff(current.effective)...)
	entry.Restart = slices.DeleteFunc(slices.Clone(entry.Changed), m.schema.isLive)
	if len(entry.Restart) == 0 {
		entry.Restart = nil
		return m.applyInPlace(ctx, next, entry, st)
	}
	return m.applyByRestart(ctx, current, next, entry, st)
}

// decode makes a typed, validated config of a content. unknown are keys that no
// field knows, where that is no error; the reason is the category of an error.
func (m *Manager[T]) decode(values configsrc.Values) (config *T, unknown []configsrc.Problem, reason string, err error) {
	defaults := m.options.Default()
	config = &defaults
	problems, unknown := m.schema.decode(values, config)
	if m.options.Strict {
		problems, unknown = append(problems, unknown...), nil
	}
	if len(problems) > 0 {
		sortProblems(problems)
		return nil, unknown, rejectedDecode, &configsrc.InvalidError{Problems: problems}
	}
	if problems := m.schema.validate(m.checker, config, values); len(problems) > 0 {
		return nil, unknown, rejectedValidate, &configsrc.InvalidError{Problems: problems}
	}
	return config, unknown, "", nil
}

const maxUnknownShown = 20

func (m *Manager[T]) warnUnknown(unknown []configsrc.Problem) {
	shown := make([]string, 0, maxUnknownShown)
	for _, p := range unknown[:min(len(unknown), maxUnknownShown)] {
		shown = append(shown, p.String())
	}
	m.log.Warn("config has keys that are no settings; they have no effect", "count", len(unknown), "keys", shown)
}

func (m *Manager[T]) newRevision(c content, config *T) *Revision[T] {
	r := &Revision[T]{Config: config, ID: c.revision(), content: c, effective: m.schema.encode(config)}
	r.refs.Store(1)
	r.retire = func() { m.retireRevision(r) }
	return r
}

// applyInPlace builds next and swaps it in. Only the build can fail.
func (m *Manager[T]) applyInPlace(ctx context.Context, next *Revision[T], entry Entry, st stages) Entry {
	if err := m.buildRevision(ctx, next); err != nil {
		return m.refuse(entry, st, rejectedBuild, err)
	}
	st.built = time.Now()
	m.swap(next)
	st.applied = time.Now()
	entry.Outcome = Applied
	if len(entry.Changed) > 0 {
		entry.Action = ActionInPlace
	}
	entry = m.finish(entry, st, "")
	m.saveGood(next.content)
	return entry
}

func (m *Manager[T]) buildRevision(ctx context.Context, next *Revision[T]) error {
	var previous []*instance
	if current := m.Load(); current != nil {
		previous = current.instances
	}
	var err error
	next.instances, err = m.build(ctx, next.Config, previous)
	return err
}

// applyByRestart hands next over to a new process. Where that cannot be had,
// its live part is applied under the running restart part, so that a busy port
// does not hold up a certificate.
func (m *Manager[T]) applyByRestart(ctx context.Context, current, next *Revision[T], entry Entry, st stages) Entry {
	rejected := rejectedRestart
	if m.options.Restart == nil {
		entry.Outcome = RestartRequired
		entry.Reason = "needs a restart: " + joinKeys(entry.Restart)
		rejected = ""
	} else {
		err := m.options.Restart(ctx, Content{Revision: next.ID, Values: next.content.sourced, Labels: next.content.labels})
		if err == nil {
			m.restarted = true
			entry.Outcome, entry.Action = Restarted, ActionRestart
			st.applied = time.Now()
			return m.finish(entry, st, "")
		}
		entry.Outcome = RestartFailed
		entry.Reason = err.Error()
		if isRetryable(err) {
			m.retryLater(err)
		}
	}
	live, err := m.livePart(ctx, current, next)
	switch {
	case err != nil:
		entry.Reason += "; the rest does not fit the settings in force until then: " + err.Error()
	case live != nil:
		st.built = time.Now()
		m.swap(live)
		st.applied = time.Now()
		entry.Action = ActionInPlace
		entry.InForce = live.ID
	default:
		entry.InForce = current.ID
	}
	entry = m.finish(entry, st, rejected)
	if live != nil {
		m.saveGood(live.content)
	}
	return entry
}

// livePart builds next's live part under current's restart part. It is nil
// where that is what is in force already.
func (m *Manager[T]) livePart(ctx context.Context, current, next *Revision[T]) (*Revision[T], error) {
	combined, _ := m.schema.combine(current.Config, next.Config).(*T)
	c, err := newContent(m.schema.combineValues(current.content.sourced, next.content.sourced), m.fixed, next.content.labels)
	if err != nil {
		return nil, err
	}
	live := m.newRevision(c, combined)
	if len(live.effective.diff(current.effective)) == 0 {
		return nil, nil
	}
	if problems := m.schema.validate(m.checker, combined, c.full); len(problems) > 0 {
		return nil, &configsrc.InvalidError{Problems: problems}
	}
	if err := m.buildRevision(ctx, live); err != nil {
		return nil, err
	}
	return live, nil
}

// refuse ends a content that is not brought into force: for good, or until the
// next try where the environment was to blame.
func (m *Manager[T]) refuse(entry Entry, st stages, reason string, err error) Entry {
	entry.Outcome = Refused
	entry.Reason = err.Error()
	if isRetryable(err) {
		entry.Outcome = Failed
		m.retryLater(err)
	}
	return m.finish(entry, st, reason)
}

func (m *Manager[T]) retryLater(err error) {
	m.retry.Reset(m.tried.pace.next(err))
}

// finish writes an outcome down: history, log, metrics, status.
func (m *Manager[T]) finish(entry Entry, st stages, rejected string) Entry {
	if ms := st.milliseconds(); entry.Outcome != Unchanged && len(ms) > 0 {
		entry.StagesMS = ms
	}
	entry, err := m.history.add(entry)
	if err != nil {
		m.log.Warn("config history", "error", err)
	}
	m.metrics.observe(entry, st, rejected)
	m.mu.Lock()
	m.state.last = entry
	m.state.entries = slices.Clone(m.history.entries)
	m.mu.Unlock()

	level, text := slog.LevelInfo, "config "+string(entry.Outcome)
	if !entry.Outcome.Good() {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.Int64("change", entry.ID), slog.String("revision", entry.Revision), slog.String("trigger", string(entry.Trigger)),
		slog.String("outcome", string(entry.Outcome)), slog.String("action", string(entry.Action)), slog.Any("changed", entry.Changed),
	}
	if entry.Reason != "" {
		attrs = append(attrs, slog.String("reason", entry.Reason))
	}
	if len(entry.Sources) > 0 {
		attrs = append(attrs, slog.Any("sources", entry.Sources))
	}
	if len(entry.StagesMS) > 0 {
		attrs = append(attrs, slog.Any("stages_ms", entry.StagesMS))
	}
	m.log.LogAttrs(context.Background(), level, text, attrs...) //nolint:sloglint // one of seven, for who reads and not searches
	return entry
}

// saveGood keeps a content that is in force for a cold start and for rollbacks.
func (m *Manager[T]) saveGood(c content) {
	err := errors.Join(m.store.save(lastGoodFile, m.identity, c), m.history.keep(m.identity, c))
	if err != nil {
		m.log.Warn("last good configuration", "error", err)
	}
}
