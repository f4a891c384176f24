package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/configsrc"
)

// Layer is one contribution to the configuration.
type Layer struct {
	// Name is what people call it: "file", "consul", "set". It must be unique.
	Name string
	// Source is followed for as long as the manager runs. nil makes this a
	// fixed layer with the content Values.
	Source configsrc.Source
	Values configsrc.Values
	// Address is where the source is, for people; without credentials. With
	// Name, it also tells whether stored content came from the same source.
	Address string
	// Quiet is how long a source whose publication is several writes must stay
	// unchanged before its content is taken, and at most for QuietMax. 0 is
	// for sources that publish at once.
	Quiet time.Duration
}

// QuietMax bounds the wait for a layer's quiet time.
const QuietMax = 3 * time.Second

// Options are what a manager is made with. Default is required.
type Options[T any] struct {
	// Default returns a config with every default set. It is called for each
	// content, and must return a new value each time.
	Default func() T
	// Layers, lowest priority first; those with a Source come before the fixed
	// ones.
	Layers []Layer
	// Strict refuses content with keys that no field of T has. Without it they
	// are logged.
	Strict bool
	// StartTimeout bounds the first read in Start. Default 10 s.
	StartTimeout time.Duration
	// BuildTimeout bounds each resource's build. Default 10 s.
	BuildTimeout time.Duration
	// Grace is how long the resources of a retired revision stay open for
	// requests that still hold it. Default 5 minutes.
	Grace time.Duration
	// StateDir is where last good, pin and history live; made with 0700 where
	// missing. One manager at a time may use it. "" keeps nothing on disk.
	StateDir string
	// Restart brings a content that needs a restart into force, in a new
	// process, and returns when that process has taken over, or why not. An
	// error marked Retryable is tried again. nil: nobody can restart, and such
	// a content ends as RestartRequired.
	Restart func(ctx context.Context, next Content) error
	// Logger gets one line a change, without values. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer gets the svc_config_* metrics. nil: no metrics.
	Registerer prometheus.Registerer
}

// Content is a configuration as it is handed to another process.
type Content struct {
	// Revision names it.
	Revision string
	// Values is the part that the sources gave, without the fixed layers.
	Values configsrc.Values
	// Labels has each source's own name for its state.
	Labels map[string]string
}

// Manager turns sources into one typed value that is always valid.
//
// The order of calls is [New], [Register] and [Subscribe], [Manager.Start],
// then [Manager.Run] in a goroutine. All other methods may be called from any
// goroutine once Start has returned. Reload, Rollback and Resume need Run.
type Manager[T any] struct {
	options   Options[T]
	schema    *schema
	checker   *validator.Validate
	log       *slog.Logger
	metrics   *metrics
	fixed     configsrc.Values
	resources []resource[T]
	subs      []subscription[T]
	store     *store
	identity  string // of the sources

	current    atomic.Pointer[Revision[T]]
	watchers   []*watcher
	updates    chan update
	requests   chan func(context.Context)
	stopped    chan struct{}  // closed when Run has ended
	background sync.WaitGroup // builds and closings

	// What follows is written by the one goroutine that runs Start, then Run.
	history   *history
	tried     tried
	retry     *time.Timer // fires when a failed content is due again
	restarted bool

	mu    sync.Mutex // guards what follows
	state state
	alive map[*Revision[T]]struct{} // revisions not yet retired
}

// state is what status, plan and history show.
type state struct {
	sources   []SourceStatus
	snapshots []*configsrc.Snapshot // the last one of each source; nil: none yet
	last      Entry
	entries   []Entry
	pin       *content
	fallback  string // why the last good content was started from; "" once it was not needed any more
}

// tried is the content that was decided about last, and the outcome.
type tried struct {
	content content
	entry   Entry
	pace    pace // of tries that failed
}

// ErrStopped is returned for a request to a manager whose Run has ended or was
// never called.
var ErrStopped = errors.New("the config manager is not running")

// New checks the config type and the options. It reads nothing yet, but makes
// the state folder.
func New[T any](options Options[T]) (*Manager[T], error) {
	if options.Default == nil {
		return nil, errors.New("make config manager: Options.Default is missing")
	}
	options.StartTimeout = cmp.Or(options.StartTimeout, 10*time.Second)
	options.BuildTimeout = cmp.Or(options.BuildTimeout, 10*time.Second)
	options.Grace = cmp.Or(options.Grace, 5*time.Minute)
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := newSchema(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	m := &Manager[T]{
		options: options, schema: s, checker: newValidate(), log: options.Logger,
		updates: make(chan update), requests: make(chan func(context.Context)), stopped: make(chan struct{}),
		retry: time.NewTimer(time.Hour), alive: map[*Revision[T]]struct{}{},
	}
	m.retry.Stop()
	if err := m.addLayers(options.Layers); err != nil {
		return nil, err
	}
	m.metrics, err = newMetrics(options.Registerer, m.staleSeconds)
	if err != nil {
		return nil, err
	}
	m.store, err = newStore(options.StateDir)
	if err != nil {
		return nil, err
	}
	m.history, err = openHistory(m.store)
	if err != nil {
		return nil, err
	}
	m.state.entries = slices.Clone(m.history.entries)
	return m, nil
}

func (m *Manager[T]) addLayers(layers []Layer) error {
	names := map[string]bool{}
	var identity []string
	var fixed []configsrc.Values
	for _, l := range layers {
		if l.Name == "" || names[l.Name] {
			return fmt.Errorf("make config manager: layer name %q is empty or taken", l.Name)
		}
		names[l.Name] = true
		if l.Source == nil {
			fixed = append(fixed, m.schema.resolveAliases(l.Values))
			continue
		}
		if len(fixed) > 0 {
			return fmt.Errorf("make config manager: layer %s has a source and lies above a fixed layer", l.Name)
		}
		identity = append(identity, strings.TrimSpace(l.Name+" "+l.Address))
		m.watchers = append(m.watchers, &watcher{layer: l, index: len(m.watchers), updates: m.updates})
		m.state.sources = append(m.state.sources, SourceStatus{Name: l.Name, Address: l.Address})
	}
	m.state.snapshots = make([]*configsrc.Snapshot, len(m.watchers))
	m.identity = strings.Join(identity, " + ")
	var err error
	m.fixed, err = configsrc.Merge(fixed...)
	return err
}

// Start reads every source once and brings the result into force. Where a
// source cannot be reached within StartTimeout, or the content is refused, it
// falls back to the last good content of the same sources; without one it
// returns the reason. A pinned content is used without asking the sources.
func (m *Manager[T]) Start(ctx context.Context) error {
	if err := m.readSources(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	if started, err := m.startPinned(ctx); started || err != nil {
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
	c, err := newContent(values, m.fixed, r.Labels)
	if err != nil {
		return false, fmt.Errorf("pinned revision %s: %w", r.Revision, err)
	}
	entry := m.decide(ctx, c, TriggerStart, stages{})
	if m.Load() == nil {
		return false, fmt.Errorf("pinned revision %s: %s", r.Revision, entry.Reason)
	}
	m.setPin(&c)
	m.log.Warn("config is pinned by a rollback; the sources are not followed until it is resumed", "revision", c.revision())
	return true, nil
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
	c, err := newContent(values, m.fixed, r.Labels)
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
	}
	return nil
}

// Run follows the sources and applies what they publish until ctx ends or a
// restart has succeeded, then returns nil. It gives up the resources of the
// last revision, so whatever uses them must have ended before ctx does. It
// waits for everything it started; a Close that hangs is not waited for longer
// than closeTimeout, and is an error.
func (m *Manager[T]) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	for _, w := range m.watchers {
		watching.Go(func() { w.run(ctx) })
	}
	for ctx.Err() == nil && !m.restarted {
		select {
		case u := <-m.updates:
			m.handle(ctx, u)
		case request := <-m.requests:
			request(ctx)
		case <-m.retry.C:
			m.decide(ctx, m.tried.content, TriggerRetry, stages{})
		case <-ctx.Done():
		}
	}
	cancel()
	watching.Wait()
	close(m.stopped)
	m.retry.Stop()
	return m.retireAll()
}

// closeTimeout bounds the wait, at the end of Run, for builds and closings.
const closeTimeout = 10 * time.Second

// do runs f on the manager's goroutine.
func (m *Manager[T]) do(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case m.requests <- func(runCtx context.Context) { defer close(done); f(runCtx) }:
	case <-m.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	// It has begun, and its result is worth having.
	<-done
	return nil
}

// Reload reads all sources now and returns what became of it: Unchanged where
// nothing differs. A content that failed before is tried again; one that was
// refused is refused again without being built. Where a source cannot be read,
// the outcome is Failed, or Refused where its content does not parse. It
// returns an error only when there is no outcome: ctx ended first, or
// ErrStopped.
func (m *Manager[T]) Reload(ctx context.Context) (Entry, error) {
	replies := make(chan Entry, len(m.watchers))
	for _, w := range m.watchers {
		w.readNow(replies)
	}
	if len(m.watchers) == 0 {
		return Entry{Outcome: Unchanged, Action: ActionNone, Trigger: TriggerReload, Changed: []string{}}, nil
	}
	var result Entry
	for range m.watchers {
		select {
		case e := <-replies:
			if rank(e.Outcome) >= rank(result.Outcome) {
				result = e
			}
		case <-m.stopped:
			return Entry{}, ErrStopped
		case <-ctx.Done():
			return Entry{}, fmt.Errorf("wait for the sources to answer: %w", ctx.Err())
		}
	}
	return result, nil
}

// rank orders outcomes by how much an operator needs to know of them.
func rank(o Outcome) int {
	return slices.Index([]Outcome{Unchanged, Applied, Restarted, RestartRequired, RestartFailed, Failed, Refused}, o)
}

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
