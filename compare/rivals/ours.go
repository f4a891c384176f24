package rivals

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/reload"
)

// config is the type that our manager decodes the documents into.
type config struct {
	Server serverConfig   `config:"server" reload:"live"`
	Public map[string]any `config:"public" reload:"live"`
}

type serverConfig struct {
	Timeout timeoutConfig `config:"timeout"`
}

type timeoutConfig struct {
	Request time.Duration `config:"request" validate:"min=1ms"`
}

func defaults() config {
	return config{Server: serverConfig{timeoutConfig{time.Second}}, Public: map[string]any{}}
}

// effect is a value of setting and when it had come into force.
type effect struct {
	timeout time.Duration
	at      time.Time
}

// manager is a running reload.Manager whose effects can be waited for.
type manager struct {
	*reload.Manager[config]
	effects chan effect
	cancel  context.CancelFunc
	done    chan error
}

// startManager follows a source until close is called or ctx ends.
func startManager(ctx context.Context, source configsrc.Source, quiet time.Duration) (*manager, error) {
	m, err := reload.New(reload.Options[config]{
		Default: defaults,
		Layers:  []reload.Layer{{Name: "measured", Source: source, Quiet: quiet}},
	})
	if err != nil {
		return nil, err
	}
	// Start tells the first effect; after it there is one change at a time.
	effects := make(chan effect, 1)
	reload.Subscribe(m, setting, func(c *config) time.Duration { return c.Server.Timeout.Request }, func(d time.Duration) {
		e := effect{d, time.Now()}
		select {
		case effects <- e:
		case <-ctx.Done():
		}
	})
	if err := m.Start(ctx); err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	<-effects
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return &manager{Manager: m, effects: effects, cancel: cancel, done: done}, nil
}

// close ends the manager and waits for it.
func (m *manager) close() error {
	m.cancel()
	return <-m.done
}

// effect waits until the timeout is in force, and returns since when.
func (m *manager) effect(ctx context.Context, timeout time.Duration) (time.Time, error) {
	select {
	case e := <-m.effects:
		if e.timeout != timeout || m.Load().Config.Server.Timeout.Request != timeout {
			return time.Time{}, errNotRead
		}
		return e.at, nil
	case <-ctx.Done():
		last := m.Status().Last
		return time.Time{}, fmt.Errorf("wait for the effect (the last change was %s): %w", last.Outcome, ctx.Err())
	}
}

// openOurs starts our manager on a source in memory.
func openOurs(ctx context.Context, first document) (ours, pinned *library, end func() error, err error) {
	source := newMemory(first.text)
	m, err := startManager(ctx, source, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	ours = &library{
		name: "svc",
		read: func(n int) time.Duration {
			var sum time.Duration
			for range n {
				sum += m.Load().Config.Server.Timeout.Request
			}
			return sum
		},
		load: func(ctx context.Context, d document) (time.Duration, error) {
			began := time.Now()
			source.publish(d.text)
			at, err := m.effect(ctx, d.timeout)
			return at.Sub(began), err
		},
	}
	pinned = &library{
		name: "svc",
		read: func(n int) time.Duration {
			var sum time.Duration
			for range n {
				pinnedCtx, release := m.Pin(ctx)
				sum += m.From(pinnedCtx).Config.Server.Timeout.Request
				release()
			}
			return sum
		},
	}
	return ours, pinned, m.close, nil
}

// memory is a source whose text is handed to it. It parses each text once, as
// any source does.
type memory struct {
	changed chan struct{} // holds a token after a publication

	mu   sync.Mutex // guards what follows
	text []byte
	seq  int // of the text, from 1

	// What follows belongs to Next.
	parsed   int // the seq of snapshot and err
	snapshot configsrc.Snapshot
	err      error
}

var _ configsrc.Source = (*memory)(nil)

func newMemory(text []byte) *memory {
	return &memory{changed: make(chan struct{}, 1), text: text, seq: 1}
}

func (s *memory) publish(text []byte) {
	s.mu.Lock()
	s.text = text
	s.seq++
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default: // a token is there, and who takes it sees this text
	}
}

// Next implements configsrc.Source.
func (s *memory) Next(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
	for {
		s.parse(time.Now())
		if s.err != nil {
			return configsrc.Snapshot{}, s.err
		}
		if after.IsZero() || s.snapshot.Version.Content != after.Content {
			return s.snapshot, nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return configsrc.Snapshot{}, ctx.Err()
		}
	}
}

func (s *memory) parse(notified time.Time) {
	s.mu.Lock()
	text, seq := s.text, s.seq
	s.mu.Unlock()
	if seq == s.parsed {
		return
	}
	s.parsed, s.err = seq, nil
	values, err := configsrc.Flatten(configsrc.YAML, text, configsrc.Origin{Source: "memory", Name: "memory.yaml"}, configsrc.Limits{})
	if err != nil {
		s.err = &configsrc.Error{Backend: "memory", Op: "parse", Address: "memory.yaml", Kind: configsrc.ErrInvalid, Err: err}
		return
	}
	s.snapshot = configsrc.Snapshot{
		Version: configsrc.Version{Content: values.Hash()}, Values: values, Notified: notified, Fetched: time.Now(),
	}
}
