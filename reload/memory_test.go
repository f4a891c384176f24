package reload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/hotsvc/svc/configsrc"
)

func TestMain(m *testing.M) {
	if runAsChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// memory is a source held in memory, by the rules of configsrc.Source. It is
// the fake that this package's tests follow.
type memory struct {
	mu      sync.Mutex
	values  configsrc.Values
	err     error // given instead of values
	state   configsrc.Version
	changed chan struct{} // closed at each change
	calls   int
	delay   time.Duration // of each answer
}

func newMemory(t testing.TB, yaml string) *memory {
	t.Helper()
	s := &memory{changed: make(chan struct{})}
	s.publish(t, yaml)
	return s
}

// publish replaces the whole content, and wakes who waits.
func (s *memory) publish(t testing.TB, yaml string) {
	t.Helper()
	s.replace(t, yaml)
	s.wake()
}

// replace replaces the whole content and tells nobody.
func (s *memory) replace(t testing.TB, yaml string) {
	t.Helper()
	values := testValues(t, yaml)
	s.set(values, nil, configsrc.Version{Content: values.Hash()})
}

// fail makes the source answer with an error; kind may be nil.
func (s *memory) fail(kind error, state string) {
	v := configsrc.Version{}
	if state != "" {
		v = configsrc.Version{Content: sha256.Sum256([]byte(state)), Cursor: "error"}
	}
	s.set(nil, &configsrc.Error{Backend: "memory", Op: "read", Address: "here", Kind: kind, Version: v, Err: errors.New("as the test wants it")}, v)
	s.wake()
}

func (s *memory) set(values configsrc.Values, err error, state configsrc.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.err, s.state = values, err, state
}

func (s *memory) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *memory) Next(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
	for {
		s.mu.Lock()
		s.calls++
		values, err, state, changed := s.values, s.err, s.state, s.changed
		s.mu.Unlock()
		if s.delay > 0 {
			sleep(ctx, s.delay)
		}
		switch {
		case ctx.Err() != nil:
			return configsrc.Snapshot{}, ctx.Err()
		case err != nil && (after.IsZero() || state != after):
			return configsrc.Snapshot{}, err
		case err == nil && (after.IsZero() || state.Content != after.Content):
			now := time.Now()
			return configsrc.Snapshot{Version: state, Values: values, Label: "label", Notified: now, Fetched: now}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return configsrc.Snapshot{}, ctx.Err()
		}
	}
}

// sourceFunc is a source that is only its Next.
type sourceFunc func(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error)

func (f sourceFunc) Next(ctx context.Context, after configsrc.Version) (configsrc.Snapshot, error) {
	return f(ctx, after)
}

func (s *memory) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// settings is the config type of these tests.
type settings struct {
	Listen  []string         `config:"listen" validate:"min=1"`
	Workers int              `config:"workers" validate:"min=1,max=64"`
	Timeout time.Duration    `config:"timeout" reload:"live" alias:"old.timeout" validate:"min=0"`
	Pair    pair             `config:"pair" reload:"live"`
	Token   configsrc.Secret `config:"token" reload:"live"`
	Plain   string           `config:"plain" reload:"live" secret:"true"`
	Public  map[string]any   `config:"public" reload:"live"`
}

type pair struct {
	A int `config:"a"`
	B int `config:"b"`
}

// Validate refuses a pair that does not match.
func (p *pair) Validate() error {
	if p.A != p.B {
		return &configsrc.InvalidError{Problems: []configsrc.Problem{{Key: "b", Reason: "must be the same as a"}}}
	}
	return nil
}

func defaults() settings {
	return settings{Listen: []string{"127.0.0.1:0"}, Workers: 4, Timeout: time.Second, Public: map[string]any{}}
}

// logs collects what is logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a manager over one memory source.
type rig struct {
	*Manager[settings]
	source   *memory
	logs     *logs
	registry *prometheus.Registry
}

func newRig(t testing.TB, yaml string, change func(*Options[settings])) *rig {
	t.Helper()
	r := &rig{source: newMemory(t, yaml), logs: &logs{}, registry: prometheus.NewRegistry()}
	o := Options[settings]{
		Default:    defaults,
		Layers:     []Layer{{Name: "memory", Address: "here", Source: r.source}},
		Logger:     slog.New(slog.NewTextHandler(io.Writer(r.logs), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: r.registry,
	}
	if change != nil {
		change(&o)
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Manager = m
	return r
}

// start starts and runs the manager for the rest of the test, or until stop.
func (r *rig) start(t testing.TB) (stop func()) {
	t.Helper()
	return startManager(t, r.Manager)
}

func newManager[T any](t testing.TB, o Options[T]) *Manager[T] {
	t.Helper()
	if o.Default == nil {
		o.Default = func() T { var zero T; return zero }
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// startManager starts and runs m for the rest of the test, or until stop.
func startManager[T any](t testing.TB, m *Manager[T]) (stop func()) {
	t.Helper()
	if err := m.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// newPairOfSources is a manager over two memory sources.
func newPairOfSources(t testing.TB, lowYAML, highYAML string, change func(*Options[settings])) (r *rig, low, high *memory) {
	t.Helper()
	low, high = newMemory(t, lowYAML), newMemory(t, highYAML)
	r = newRig(t, "", func(o *Options[settings]) {
		o.Layers = []Layer{{Name: "low", Source: low}, {Name: "high", Source: high}}
		if change != nil {
			change(o)
		}
	})
	return r, low, high
}

// testValues is a document as a source would give it.
func testValues(t testing.TB, yaml string) configsrc.Values {
	t.Helper()
	values, err := configsrc.Flatten(configsrc.YAML, []byte(yaml), configsrc.Origin{Source: "memory", Name: "memory.yaml"}, configsrc.Limits{})
	if err != nil {
		t.Fatalf("test document: %v", err)
	}
	return values
}

// outage registers a resource that depends on the pair, and cannot be built of
// a new one while down is set: the environment is to blame. builds counts tries.
func outage(r *rig) (down *atomic.Bool, builds *atomic.Int64) {
	down, builds = &atomic.Bool{}, &atomic.Int64{}
	Register(r.Manager, "dial", func(c *settings) pair { return c.Pair }, func(_ context.Context, p pair) (int, error) {
		builds.Add(1)
		if down.Load() {
			return 0, Retryable(errors.New("connection refused"))
		}
		return p.A, nil
	})
	return down, builds
}

// reload replaces the content and reads it now. The watcher may have seen it
// before it was asked; the outcome is then that of the change.
func (r *rig) reload(t testing.TB, yaml string) Entry {
	t.Helper()
	before := r.Status().Last.ID
	r.source.replace(t, yaml)
	e := r.reread(t)
	if last := r.Status().Last; e.Outcome == Unchanged && last.ID > before {
		return last
	}
	return e
}

func (r *rig) reread(t testing.TB) Entry {
	t.Helper()
	e, err := r.Reload(t.Context())
	if err != nil {
		t.Fatalf("Reload: %v", err)
	}
	return e
}

// want fails unless the entry has this outcome.
func want(t testing.TB, e Entry, outcome Outcome) {
	t.Helper()
	if e.Outcome != outcome {
		t.Fatalf("outcome %s (%s), want %s", e.Outcome, e.Reason, outcome)
	}
}

// until waits for a condition, in real or virtual time.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for range 2000 {
		if condition() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func pairYAML(n int) string { return fmt.Sprintf("pair: {a: %d, b: %d}\n", n, n) }
