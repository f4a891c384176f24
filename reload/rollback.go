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
	entry := m.decide(ctx, c, TriggerRollback, stages{})
	if entry.Outcome == Refused || entry.Outcome == Failed {
		return entry, nil
	}
	m.setPin(&c)
	if m.store == nil {
		return entry, nil
	}
	data, err := encodeRecord(m.identity, c)
	if err == nil {
		err = m.store.write(pinFile, data)
	}
	if err != nil {
		return entry, fmt.Errorf("pin revision: it holds until this process ends: %w", err)
	}
	return entry, nil
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
