package reload

import (
	"context"
	"errors"
	"fmt"
)

// Rollback brings a content that was in force before into force again, as a new
// entry of the history and through the same checks, and pins it: the sources
// are still read, but not applied, in this process and the next ones, until
// Resume. A content that is refused is not pinned. The error is ErrNoRevision,
// ErrStopped, or that the pin could not be written.
func (m *Manager[T]) Rollback(ctx context.Context, revision string) (Entry, error) {
	var entry Entry
	var err error
	doErr := m.do(ctx, func(ctx context.Context) { entry, err = m.rollback(ctx, revision) })
	return entry, errors.Join(doErr, err)
}

func (m *Manager[T]) rollback(ctx context.Context, revision string) (Entry, error) {
	r, values, err := m.history.content(revision)
	if err != nil {
		return Entry{}, err
	}
	c, err := newContent(values, m.fixed, r.Labels)
	if err != nil {
		return Entry{}, fmt.Errorf("roll back to %s: %w", revision, err)
	}
	// The pin is there before the content comes into force: a process that is
	// started for it must find it.
	if err := m.writePin(c); err != nil {
		return Entry{}, err
	}
	before := m.tried
	entry := m.decide(ctx, c, TriggerRollback, stages{})
	if entry.Outcome == Refused || entry.Outcome == Failed {
		// Not asked for again: the next try belongs to what the sources have.
		m.retry.Stop()
		m.tried = before
		if m.tried.again {
			m.retry.Reset(m.tried.pace.next(nil))
		}
		return entry, m.restorePin()
	}
	m.setPin(&c)
	return entry, nil
}

func (m *Manager[T]) writePin(c content) error {
	if m.store == nil {
		return nil
	}
	data, err := encodeRecord(m.identity, c)
	if err == nil {
		err = m.store.write(pinFile, data)
	}
	if err != nil {
		return fmt.Errorf("pin revision %s: %w", c.revision(), err)
	}
	return nil
}

// restorePin puts the pin on disk back to the one in force, or none.
func (m *Manager[T]) restorePin() error {
	m.mu.Lock()
	pin := m.state.pin
	m.mu.Unlock()
	if pin != nil {
		return m.writePin(*pin)
	}
	if err := m.store.remove(pinFile); err != nil {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// Resume ends a pin and brings what the sources have now into force.
func (m *Manager[T]) Resume(ctx context.Context) (Entry, error) {
	var entry Entry
	var err error
	doErr := m.do(ctx, func(ctx context.Context) {
		if err = m.store.remove(pinFile); err != nil {
			err = fmt.Errorf("remove pin: %w", err)
			return
		}
		m.setPin(nil)
		entry = m.evaluate(ctx, TriggerResume)
	})
	return entry, errors.Join(doErr, err)
}

func (m *Manager[T]) setPin(c *content) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.pin = c
}
