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
	// missing. One manager at a time may write to it: of several processes that
	// hand over to each other, the one that follows the sources. "" keeps
	// nothing on disk.
	StateDir string
	// Restart brings a content that needs a restart into force, in a new
	// process whose manager has it as Options.Handed, and returns when Run of
	// that manager begins, or why it does not: nil suspends this one. content
	// is valid for the call, and holds secrets. Restart is called in a
	// goroutine of its own, one call at a time. ctx ends when another content
	// is wanted, or Run's ends; Restart should then give up and return soon,
	// since nothing else is decided before; if it succeeds all the same, the
	// other content is the new process's to find. An error marked Retryable is
	// tried again, its text is shown to operators. nil: nobody can restart, and
	// such a content ends as RestartRequired.
	Restart func(ctx context.Context, content []byte) error
	// Handed is what another process gave to its Restart, or to Applied: Start
	// uses it instead of the sources. It is of the same sources, by Name and
	// Address, and at most 72 MiB long. nil: a cold start.
	Handed []byte
	// Applied is called with each content that has come into force, whole or
	// in part, and after Start, in a form for Handed of a process that is
	// started without a change: it holds secrets. It runs on the manager's
	// goroutine, and must not block. It may keep content.
	Applied func(content []byte)
	// Settled, for a handed start, ends the time in which this process may
	// still give way to the one before: last good is not written before it is
	// closed. nil: it is written when Run begins.
	Settled <-chan struct{}
	// Logger gets one line a change, without values. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer gets the svc_config_* metrics. nil: no metrics.
	Registerer prometheus.Registerer
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
	requests   chan *request
	handover   *handover
	stopped    chan struct{}  // closed when Run has ended
	background sync.WaitGroup // builds and closings

	// What follows is written by the one goroutine that runs Start, then Run.
	history   *history
	tried     tried
	retry     *time.Timer     // fires when a failed content is due again
	probation <-chan struct{} // last good waits until it is closed; nil: it does not wait
	inherited *inherited      // from the process before; nil once Run has begun
	deferred  deferred        // by a restart under way
	calm      calm
	handed    *handed // to the process that follows after a restart from here

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
	pace    pace  // of tries that failed
	again   bool  // the environment was to blame: a try is due when the timer fires
	barred  error // why no restart is tried for it: the process that it had started has died
}

// ErrStopped is returned for a request to a manager whose Run has ended.
var ErrStopped = errors.New("the config manager is not running")

// New checks the config type and the options. It reads nothing of the sources
// yet, but makes the state folder, unless Options.Handed is set.
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
		updates: make(chan update), requests: make(chan *request), stopped: make(chan struct{}),
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
	if err := m.openState(); err != nil {
		return nil, err
	}
	m.handover = newHandover(m.store)
	return m, nil
}

// openState opens the state folder. What was handed a content leaves it to the
// process before until Run begins.
func (m *Manager[T]) openState() error {
	m.store = newStore(m.options.StateDir)
	m.history = newHistory(m.store)
	if m.options.Handed != nil {
		return nil
	}
	if err := m.store.open(); err != nil {
		return err
	}
	m.store.sweep()
	var err error
	m.history, err = openHistory(m.store)
	if err != nil {
		return err
	}
	m.state.entries = slices.Clone(m.history.entries)
	return nil
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

// Run follows the sources and applies what they publish until ctx ends, then
// returns nil. While another process follows, since a restart or
// [Manager.Suspend], it waits for [Manager.Return], and keeps the last revision
// usable for the requests that are still under way. At the end it gives up the
// resources of that revision, so whatever uses them must have ended before ctx
// does. It waits for everything it started; a Close that hangs is not waited
// for longer than closeTimeout, and is an error.
func (m *Manager[T]) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		m.follow(ctx)
		m.standBy(ctx)
	}
	m.dropDeferred(ErrStopped)
	close(m.stopped)
	return m.retireAll()
}

// follow follows the sources until ctx ends or another process does it.
func (m *Manager[T]) follow(ctx context.Context) {
	if m.handover.isAway() {
		return
	}
	if m.inherited != nil {
		m.takeOver()
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	for _, w := range m.watchers {
		watching.Go(func() { w.run(ctx) })
	}
	for {
		m.catchUp(ctx)
		if ctx.Err() != nil || m.handover.isAway() {
			break
		}
		select {
		case u := <-m.updates:
			m.handle(ctx, u)
		case r := <-m.requests:
			m.serve(ctx, r)
		case <-m.retry.C:
			m.tryAgain(ctx)
		case <-m.probation:
			m.probation = nil
			m.store.sweep()
			m.save(m.Load().content)
		case <-m.handover.wake:
		case <-ctx.Done():
		}
	}
	m.retry.Stop()
	cancel()
	watching.Wait()
	if m.handover.isAway() {
		for _, w := range m.watchers {
			w.reset() // not later: in the next turn others may wait
		}
		m.dropDeferred(ErrHandedOver)
		m.log.Info("config is followed by another process now")
	}
}

// closeTimeout bounds the wait, at the end of Run, for builds and closings.
const closeTimeout = 10 * time.Second

// Reload reads all sources now and returns what became of it: Unchanged where
// nothing differs. A content that failed before is tried again; one that was
// refused is refused again without being built. Where a source cannot be read,
// the outcome is Failed, or Refused where its content does not parse. While a
// restart is under way it waits for that: for its outcome, where the sources
// still have the same content. It returns an error only when there is no
// outcome: ctx ended first, ErrStopped, or ErrHandedOver.
func (m *Manager[T]) Reload(ctx context.Context) (Entry, error) {
	turn := m.handover.now()
	select {
	case <-turn.over:
		return Entry{}, ErrHandedOver
	default:
	}
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
	case <-turn.over:
		if turn.entry.Outcome != "" {
			return turn.entry, nil
		}
		return Entry{}, ErrHandedOver
	case <-m.stopped:
		return Entry{}, ErrStopped
	case <-ctx.Done():
		m.background.Go(func() {
			_ = m.do(context.WithoutCancel(ctx), &request{ // an error tells that it is over: nothing to do
				gone: r, run: func(runCtx context.Context) { m.evaluate(runCtx, TriggerReload) },
			})
		})
		return Entry{}, fmt.Errorf("wait for the sources to answer: %w", ctx.Err())
	}
}

// rank orders outcomes by how much an operator needs to know of them.
func rank(o Outcome) int {
	return slices.Index([]Outcome{Unchanged, Applied, Restarted, RestartRequired, RestartFailed, Failed, Refused}, o)
}
