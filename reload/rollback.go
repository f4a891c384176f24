package reload

import (
	"context"
	"errors"
	"fmt"
)

// Rollback brings a content that was in force before into force again, as a new
// entry of the history and through the same checks, and pins it: the sources
// are still read, but not applied, in this process and the next ones, until
// Resume. A content that is refused is not pinned, nor is one whose restart is
// superseded by another request. A restart under way for another wish is called
// off. The error is ErrNoRevision, ErrStopped, ErrHandedOver, or that the pin
// could not be written.
func (m *Manager[T]) Rollback(ctx context.Context, revision string) (Entry, error) {
	var c content
	var entry Entry
	var err error
	doErr := m.do(ctx, &request{
		check: func() error {
			r, values, err := m.history.content(revision)
			if err != nil {
				return err
			}
			if c, err = m.storedContent(r, values); err != nil {
				return fmt.Errorf("roll back to %s: %w", revision, err)
			}
			return nil
		},
		run: func(ctx context.Context) { entry, err = m.rollback(ctx, c) },
	})
	return entry, errors.Join(doErr, err)
}

func (m *Manager[T]) rollback(ctx context.Context, c content) (Entry, error) {
	// The pin is there before the content comes into force: a process that is
	// started for it must find it.
	if err := m.writePin(c); err != nil {
		return Entry{}, err
	}
	before := m.tried
	entry := m.decide(ctx, c, TriggerRollback, stages{})
	if entry.Outcome == Refused || entry.Outcome == Failed || entry.ID == 0 {
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

// Resume ends a pin and brings what the sources have now into force. A restart
// under way is called off. The error is ErrStopped, ErrHandedOver, or that the
// pin could not be removed.
func (m *Manager[T]) Resume(ctx context.Context) (Entry, error) {
	var entry Entry
	var err error
	doErr := m.do(ctx, &request{run: func(ctx context.Context) { entry, err = m.resume(ctx) }})
	return entry, errors.Join(doErr, err)
}

func (m *Manager[T]) resume(ctx context.Context) (Entry, error) {
	if err := m.store.remove(pinFile); err != nil {
		return Entry{}, fmt.Errorf("remove pin: %w", err)
	}
	m.setPin(nil)
	for {
		entry := m.evaluate(ctx, TriggerResume)
		if m.deferred.trigger == "" || m.deferred.request != nil {
			return entry, nil
		}
		m.deferred.trigger = "" // newer content of the sources is what was asked for
	}
}

func (m *Manager[T]) setPin(c *content) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.pin = c
}
