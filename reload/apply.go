package reload

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

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
		if m.mended() || trigger == TriggerRollback || trigger == TriggerResume {
			entry.Reason = "the content is the one in force"
			if trigger == TriggerRollback {
				entry.Reason += "; it is pinned now"
			}
			entry = m.finish(entry, stages{}, "")
		}
		return entry
	}
	if current != nil && m.tried.content.hash == c.hash && m.sameEnd(trigger) {
		if m.lastID() != m.tried.entry.ID {
			// Something else went wrong in between; this is what counts again.
			again := m.tried.entry
			again.Trigger = trigger
			m.tried.entry = m.finish(again, stages{}, "")
		}
		return m.tried.entry
	}
	if m.tried.content.hash != c.hash {
		m.tried = tried{content: c}
	}
	m.retry.Stop()
	m.tried.again = false
	entry := m.apply(ctx, c, trigger, st)
	m.tried.entry = entry
	if entry.ID == 0 {
		m.tried.entry = Entry{} // called off, and so not tried
	}
	return entry
}

// sameEnd reports whether trying the content of m.tried again is in vain, or
// not due yet.
func (m *Manager[T]) sameEnd(trigger Trigger) bool {
	if m.tried.again {
		return trigger == TriggerChange // the retry timer runs
	}
	return m.tried.entry.Outcome != "" && !m.tried.entry.Outcome.Good()
}

// tryAgain is what the retry timer does.
func (m *Manager[T]) tryAgain(ctx context.Context) {
	m.mu.Lock()
	pin := m.state.pin
	m.mu.Unlock()
	if pin != nil {
		m.decide(ctx, *pin, TriggerRetry, stages{})
		return
	}
	m.evaluate(ctx, TriggerRetry)
}

func (m *Manager[T]) lastID() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.last.ID
}

// mended reports that the last entry tells of something wrong which, now that
// the content is the one in force, is not so any more. While a source cannot be
// read or parsed, it is.
func (m *Manager[T]) mended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.last.Outcome != "" && !m.state.last.Outcome.Good() &&
		!slices.ContainsFunc(m.state.sources, func(s SourceStatus) bool { return s.Stale })
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
	defer func() {
		// The application's own code runs here: Default, UnmarshalText, Validate.
		if p := recover(); p != nil {
			config, reason = nil, rejectedValidate
			err = &configsrc.InvalidError{Problems: []configsrc.Problem{{Reason: "cannot be checked: " + panicError(p).Error()}}}
		}
	}()
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
		if ctx.Err() != nil {
			// The manager ends: this says nothing about the content.
			entry.Outcome, entry.Reason = Failed, ctx.Err().Error()
			return entry.bound()
		}
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
	m.cameIntoForce(next.content, entry.Trigger)
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

// refuse ends a content that is not brought into force: for good, or until the
// next try where the environment was to blame.
func (m *Manager[T]) refuse(entry Entry, st stages, reason string, err error) Entry {
	entry.Outcome = Refused
	entry.Reason = err.Error()
	if current := m.Load(); current != nil {
		entry.InForce = current.ID
	}
	if isRetryable(err) {
		entry.Outcome = Failed
		m.retryLater(err)
	}
	return m.finish(entry, st, reason)
}

func (m *Manager[T]) retryLater(err error) {
	m.tried.again = true
	m.retry.Reset(m.tried.pace.next(err))
}

// finish writes an outcome down: history, log, metrics, status.
func (m *Manager[T]) finish(entry Entry, st stages, rejected string) Entry {
	if ms := st.milliseconds(); entry.Outcome != Unchanged && len(ms) > 0 {
		entry.StagesMS = ms
	}
	entry = entry.bound()
	if before := m.tried.entry; entry.Trigger == TriggerRetry && entry.Outcome == before.Outcome && entry.Reason == before.Reason {
		// One failure is one entry, however often it was tried.
		m.metrics.observe(entry, st, rejected)
		return before
	}
	entry, err := m.history.add(entry)
	if err != nil && !errors.Is(err, ErrHandedOver) {
		m.log.Warn("config history", "error", err)
	}
	m.metrics.observe(entry, st, rejected)
	m.show(entry)

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

// show makes an entry the last one in status and history.
func (m *Manager[T]) show(last Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.last = last
	m.state.entries = slices.Clone(m.history.entries)
}

// cameIntoForce stores a content that has come into force, and tells of it.
func (m *Manager[T]) cameIntoForce(c content, trigger Trigger) {
	m.save(c)
	if trigger != TriggerStart { // a start tells when it is through
		m.tellApplied(c)
	}
}

// save keeps a content that is in force for rollbacks, and for a cold start
// once this process has proved itself.
func (m *Manager[T]) save(c content) {
	if m.store == nil {
		return
	}
	data, err := encodeRecord(m.identity, c)
	if err == nil {
		err = m.history.keep(c.revision(), data)
	}
	if err == nil && m.probation == nil {
		err = m.store.write(lastGoodFile, data)
	}
	if err != nil && !errors.Is(err, ErrHandedOver) {
		m.log.Warn("last good configuration was not stored", "error", err)
	}
}

// tellApplied calls Options.Applied. Once another process follows, it is that
// one's to tell.
func (m *Manager[T]) tellApplied(c content) {
	if m.options.Applied == nil || m.handover.isAway() {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("config applied", "error", panicError(p))
		}
	}()
	data, err := m.encodeHanded(c, nil, stages{})
	if err != nil {
		m.log.Warn("config applied", "error", err)
		return
	}
	m.options.Applied(data)
}
