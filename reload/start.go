package reload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/hotsvc/svc/configsrc"
)

// Start reads every source once and brings the result into force. Where a
// source cannot be reached within StartTimeout, or the content is refused, it
// falls back to the last good content of the same sources; without one it
// returns the reason. A pinned content is used without asking the sources.
//
// With Options.Handed that content is used, no source is asked, and nothing is
// written to StateDir. An error is final then: there is a process that goes on
// with what it has. One of the environment keeps its mark (see [Retryable]).
func (m *Manager[T]) Start(ctx context.Context) error {
	start := m.startCold
	if m.options.Handed != nil {
		start = m.startHanded
	}
	if err := start(ctx); err != nil {
		return err
	}
	m.tellApplied(m.Load().content)
	return nil
}

func (m *Manager[T]) startCold(ctx context.Context) error {
	if started, err := m.startPinned(ctx); started || err != nil {
		return err
	}
	if err := m.readSources(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	if err := m.startLive(ctx); err != nil {
		return m.startLastGood(ctx, err)
	}
	return nil
}

// readSources makes the first read of all sources at the same time, each until
// it succeeded, gave an answer that waiting does not change, or the time is up.
func (m *Manager[T]) readSources(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.options.StartTimeout)
	defer cancel()
	updates := make([]update, len(m.watchers))
	var wg sync.WaitGroup
	for i, w := range m.watchers {
		wg.Go(func() { updates[i] = w.first(ctx) })
	}
	wg.Wait()
	for _, u := range updates {
		m.record(u)
		if errors.Is(u.err, configsrc.ErrInvalid) {
			m.tried = tried{entry: m.finish(m.sourceEntry(u, TriggerStart, Refused), stages{}, rejectedParse)}
		}
	}
	return ctx.Err()
}

// startLive brings the sources' content into force.
func (m *Manager[T]) startLive(ctx context.Context) error {
	for i, s := range m.state.snapshots {
		if s == nil {
			return m.watchers[i].lastErr
		}
	}
	if entry := m.evaluate(ctx, TriggerStart); m.Load() == nil {
		return fmt.Errorf("config %s: %s", entry.Outcome, entry.Reason)
	}
	return nil
}

func (m *Manager[T]) startPinned(ctx context.Context) (bool, error) {
	r, values, err := m.store.load(pinFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pin: %w; end it by removing that file", err)
	}
	wayOut := "to end the pin, remove " + filepath.Join(m.store.dir, pinFile)
	if r.Identity != m.identity {
		return false, fmt.Errorf("pinned revision %s is of another source: %s; %s", r.Revision, r.Identity, wayOut)
	}
	c, err := m.storedContent(r, values)
	if err != nil {
		return false, fmt.Errorf("pinned revision %s: %w; %s", r.Revision, err, wayOut)
	}
	entry := m.decide(ctx, c, TriggerStart, stages{})
	if m.Load() == nil {
		return false, fmt.Errorf("pinned revision %s: %s; %s", r.Revision, entry.Reason, wayOut)
	}
	m.setPin(&c)
	m.log.Warn("config is pinned by a rollback; the sources are not followed until it is resumed", "revision", c.revision())
	return true, nil
}

// storedContent is a content as another process has written it. That one may
// have had an older program, with another name for a setting.
func (m *Manager[T]) storedContent(r record, values configsrc.Values) (content, error) {
	return newContent(m.schema.resolveAliases(values), m.fixed, r.Labels)
}

func (m *Manager[T]) startLastGood(ctx context.Context, cause error) error {
	r, values, err := m.store.load(lastGoodFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (and no last good configuration is stored)", cause)
	case err != nil:
		return fmt.Errorf("%w (and the last good configuration cannot be used: %w)", cause, err)
	case r.Identity != m.identity:
		return fmt.Errorf("%w (and the last good configuration is of another source: %s)", cause, r.Identity)
	}
	c, err := m.storedContent(r, values)
	if err != nil {
		return fmt.Errorf("%w (and the last good configuration does not fit the settings above it: %w)", cause, err)
	}
	live := m.tried
	fallback := m.decide(ctx, c, TriggerStart, stages{})
	if m.Load() == nil {
		return fmt.Errorf("%w (and the last good configuration is refused: %s)", cause, fallback.Reason)
	}
	m.log.Warn("started from the last good configuration; it stays in force until the sources give a usable one",
		"revision", c.revision(), "saved_at", r.SavedAt, "cause", cause)
	m.tried = live // what counts is why the live content is not in force
	if live.entry.Outcome == Failed {
		m.retry.Reset(m.tried.pace.next(cause))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.fallback = cause.Error()
	if live.entry.Outcome != "" {
		m.state.last = live.entry
		m.metrics.successful.Set(0)
	}
	return nil
}
