package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	again   bool // the environment was to blame: a try is due when the timer fires
}

// ErrStopped is returned for a request to a manager whose Run has ended.
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
			m.tryAgain(ctx)
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
	r := &rereading{missing: len(m.watchers), result: make(chan Entry, 1)}
	if r.missing == 0 {
		return Entry{Outcome: Unchanged, Action: ActionNone, Trigger: TriggerReload, Changed: []string{}}.bound(), nil
	}
	for _, w := range m.watchers {
		w.readNow(r)
	}
	select {
	case e := <-r.result:
		return e, nil
	case <-m.stopped:
		if last := m.Status().Last; last.Outcome == Restarted {
			return last, nil
		}
		return Entry{}, ErrStopped
	case <-ctx.Done():
		// What the other sources have answered must not wait for the one
		// that does not.
		m.background.Go(func() {
			_ = m.do(context.WithoutCancel(ctx), func(runCtx context.Context) { m.evaluate(runCtx, TriggerReload) }) // ErrStopped: nothing to do
		})
		return Entry{}, fmt.Errorf("wait for the sources to answer: %w", ctx.Err())
	}
}

// rank orders outcomes by how much an operator needs to know of them.
func rank(o Outcome) int {
	return slices.Index([]Outcome{Unchanged, Applied, Restarted, RestartRequired, RestartFailed, Failed, Refused}, o)
}
