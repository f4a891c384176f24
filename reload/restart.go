package reload

import (
	"cmp"
	"context"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// applyByRestart hands next over to a new process. Where that cannot be had,
// its live part is applied under the running restart part, so that a busy port
// does not hold up a certificate.
func (m *Manager[T]) applyByRestart(ctx context.Context, current, next *Revision[T], entry Entry, st stages) Entry {
	rejected := rejectedRestart
	switch {
	case m.options.Restart == nil:
		entry.Outcome = RestartRequired
		entry.Reason = "needs a restart: " + joinKeys(entry.Restart)
		rejected = ""
	case m.tried.barred != nil:
		entry.Outcome = RestartFailed
		entry.Reason = m.tried.barred.Error()
	default:
		err := m.restart(ctx, next, entry, st)
		if err == nil {
			entry = m.handOver(next, entry, st)
			m.handover.end(&entry)
			return entry
		}
		m.handover.end(nil)
		entry.Outcome = RestartFailed
		entry.Reason = err.Error()
		if calledOff := m.calledOff(ctx); calledOff != "" {
			// This says nothing about the content, and is not written down.
			entry.Reason, entry.InForce = calledOff, current.ID
			m.log.Info("config restart was called off", "revision", next.ID, "reason", calledOff)
			return entry.bound()
		}
		if isRetryable(err) {
			m.retryLater(err)
		}
	}
	live, err := m.livePart(ctx, current, next)
	switch {
	case isRetryable(err):
		entry.Reason += "; the rest could not be applied, and is tried again: " + err.Error()
		m.retryLater(err)
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
		m.cameIntoForce(live.content, entry.Trigger)
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

// restart asks for a process that brings next into force, and waits for what
// becomes of it. Meanwhile it takes in what the sources say and what is asked
// for. What makes another content the wanted one calls the restart off; after
// that nothing more is taken in before the end, and calledOff tells why.
func (m *Manager[T]) restart(ctx context.Context, next *Revision[T], entry Entry, st stages) error {
	entry.ID = m.history.nextID
	data, err := m.encodeHanded(next.content, &entry, st)
	if err != nil {
		return err
	}
	m.mu.Lock()
	pinned := m.state.pin != nil || entry.Trigger == TriggerRollback // the sources decide nothing
	m.mu.Unlock()
	callCtx, callOff := context.WithCancel(ctx)
	defer callOff()
	begin := time.NewTimer(m.calm.pause(entry.Trigger))
	defer begin.Stop()
	var done chan error // of the call under way; nil before it
	for {
		updates, requests, ended := m.updates, m.requests, callCtx.Done()
		if callCtx.Err() != nil || m.handover.isAway() {
			if done == nil {
				return cmp.Or(callCtx.Err(), ErrHandedOver)
			}
			updates, requests, ended = nil, nil, nil
		}
		select {
		case <-begin.C:
			if !m.handover.begin() {
				return ErrHandedOver
			}
			done = make(chan error, 1)
			go func() { done <- m.options.Restart(callCtx, data) }()
		case err := <-done:
			m.calm.note(callCtx.Err() != nil)
			return err
		case u := <-updates:
			if m.deferUpdate(u, next.content, pinned) {
				callOff()
			}
		case r := <-requests:
			if m.deferRequest(r, next.content, pinned) {
				callOff()
			}
		case <-m.handover.wake:
		case <-ended:
		}
	}
}

// handOver ends this manager's turn after a restart: the process that took over
// has written the entry down, with the same number.
func (m *Manager[T]) handOver(next *Revision[T], entry Entry, st stages) Entry {
	st.applied = time.Now()
	entry.Outcome, entry.Action, entry.StagesMS = Restarted, ActionRestart, st.milliseconds()
	entry = entry.bound()
	entry.ID = m.history.nextID
	m.history.remember(entry)
	m.show(entry)
	m.handed = &handed{content: next.content, entry: entry}
	m.log.Info("config was handed over to a new process", "change", entry.ID, "revision", entry.Revision)
	return entry
}

// handed is the content that the process was started for which follows now.
type handed struct {
	content content
	entry   Entry // of the restart
}

// calledOff tells why a restart was not waited for to succeed or fail; "" where
// it was.
func (m *Manager[T]) calledOff(ctx context.Context) string {
	switch {
	case ctx.Err() != nil:
		return ctx.Err().Error()
	case m.deferred.request != nil:
		return "superseded by a rollback or its end"
	case m.deferred.trigger != "":
		return "superseded by newer content"
	case m.handover.isAway():
		return ErrHandedOver.Error()
	}
	return ""
}

// calm keeps contents that supersede each other from starting a process each:
// after a restart was called off, the next one begins after a pause.
type calm struct {
	pace  pace
	until time.Time
}

// calmAfter is when a restart that was called off is forgotten.
const calmAfter = time.Minute

// pause returns how long to wait before a restart. People are not kept waiting.
func (c *calm) pause(trigger Trigger) time.Duration {
	if trigger == TriggerRollback || trigger == TriggerResume {
		return 0
	}
	return max(0, time.Until(c.until))
}

// note takes in the end of a restart.
func (c *calm) note(calledOff bool) {
	if !calledOff || time.Since(c.until) > calmAfter {
		c.pace = pace{}
	}
	if calledOff {
		c.until = time.Now().Add(c.pace.next(nil))
	}
}
