package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hotsvc/svc/server/socket"
)

// Worker is a worker's side: what it was started with, and what it may ask its
// keeper. Without a keeper it does what can be done alone. Its methods may be
// called from any goroutine.
type Worker struct {
	log    *slog.Logger
	stderr io.Writer
	keeper *link // nil: there is none
	start  message

	content []byte
	states  map[string][]byte
	settled chan struct{}
	once    sync.Once
	calls   atomic.Int64   // of Listen
	stops   chan os.Signal // TERM and INT to this process
	others  chan os.Signal // HUP, QUIT and USR2 to it
	relayed chan Relayed
}

// Relayed is a state that a generation which drains has sent to the one that
// serves.
type Relayed struct {
	Generation int
	Name       string
	Data       []byte
}

// Generation is this worker's number; 1 without a keeper.
func (w *Worker) Generation() int { return max(1, w.start.Generation) }

// KeeperPID is the process that was started as the service.
func (w *Worker) KeeperPID() int {
	if w.keeper == nil {
		return os.Getpid()
	}
	return w.start.PID
}

// Kept reports whether there is a keeper.
func (w *Worker) Kept() bool { return w.keeper != nil }

// Content is what to start with: what another worker gave to Restart, or to
// SetContent. nil at a first start.
func (w *Worker) Content() []byte { return w.content }

// State is what a worker before has kept by this name; nil: none has.
func (w *Worker) State(name string) []byte { return w.states[name] }

// Settled is closed when probation is over: there is no way back to the
// generation before.
func (w *Worker) Settled() <-chan struct{} { return w.settled }

func (w *Worker) settle() { w.once.Do(func() { close(w.settled) }) }

// Restart asks for a restart with a content, or, with nil, the one in force. It
// returns when the new generation accepts, and this one is about to be told so,
// or why it does not: an error with the method Retryable, which tells whether a
// later try may succeed. When ctx ends before the new one was told to accept, a
// restart with a content is given up, and nothing has changed; one without goes
// on for the others who may wait for it.
func (w *Worker) Restart(ctx context.Context, content []byte) error {
	if w.keeper == nil {
		return errNoKeeper
	}
	return w.keeper.restart(ctx, content, "the configuration needs it")
}

// Restarter is Restart for who must know whether there is a keeper: nil where
// there is none.
func (w *Worker) Restarter() func(context.Context, []byte) error {
	if w.keeper == nil {
		return nil
	}
	return w.Restart
}

// RestartNow asks for a restart with the content in force, for a reason that is
// shown to people.
func (w *Worker) RestartNow(ctx context.Context, reason string) error {
	if w.keeper == nil {
		return errNoKeeper
	}
	return w.keeper.restart(ctx, nil, reason)
}

// SetContent tells the keeper what is in force now, which a successor starts
// with when this worker dies, or is replaced without a change. An error is
// logged: a later one may succeed.
func (w *Worker) SetContent(content []byte) {
	if w.keeper != nil {
		w.keeper.blob(message{Kind: kindContent}, content)
	}
}

// Keep stores a small state for the workers that are started later: see State.
// There may be eight names. It is of the generation that serves alone.
func (w *Worker) Keep(name string, data []byte) {
	if w.keeper != nil {
		w.keeper.blob(message{Kind: kindKeep, Name: name}, data)
	}
}

// Send hands a state to the generation that serves, when this one drains.
func (w *Worker) Send(name string, data []byte) {
	if w.keeper != nil {
		w.keeper.blob(message{Kind: kindState, Name: name}, data)
	}
}

// Relayed has what other generations have sent. It must be read: what comes while
// eight wait is dropped, and logged.
func (w *Worker) Relayed() <-chan Relayed { return w.relayed }

// Table is what the keeper knows. Without one it knows this worker alone.
func (w *Worker) Table(ctx context.Context) (Table, error) {
	if w.keeper == nil {
		return Table{}, errNoKeeper
	}
	return w.keeper.table(ctx)
}

// Listen returns a listener for each address, written as in server.listen, in
// their order, or none. They are duplicates of the keeper's sockets, which are
// opened where they are not open yet; closing one closes the duplicate alone.
// Behind them may come more, for addresses that one of addrs covers and that are
// still open: connections for them arrive there ([Alias]).
//
// mode is that of unix sockets. The error says what to do, and has the method
// Retryable where the environment is to blame. It must be called before Serve,
// and in each generation as often and in the same order: a port 0 is told from
// another by that.
func (w *Worker) Listen(ctx context.Context, addrs []string, mode os.FileMode) ([]net.Listener, error) {
	call := int(w.calls.Add(1) - 1)
	if len(addrs) == 0 {
		return nil, nil
	}
	resolved, err := socket.Resolve(ctx, addrs)
	if err != nil {
		return nil, &Error{Text: err.Error(), Environment: true}
	}
	for i := range resolved {
		if resolved[i].Nth > 0 {
			resolved[i].Nth += call * maxPerCall
		}
	}
	if w.keeper == nil {
		listeners, err := listenDirect(ctx, resolved, mode)
		if err != nil {
			return nil, &Error{Text: err.Error(), Environment: true}
		}
		return listeners, nil
	}
	return w.keeper.listen(ctx, resolved, mode)
}

// maxPerCall is more than there can be addresses in one call of Listen.
const maxPerCall = 1000

// Alias reports whether a listener is one that nobody asked for.
func Alias(ln net.Listener) bool {
	l, ok := ln.(*listener)
	return ok && l.alias
}

// Hooks are what else has to know of a handover beside the [Service]. nil funcs
// are left out. They are called one at a time and must not block for long.
type Hooks struct {
	// Others are listeners that the service does not get. Whoever serves on them
	// closes them when HandedOver is called.
	Others []net.Listener
	// Began is called when this generation is the service.
	Began func()
	// HandedOver is called when a successor is.
	HandedOver func()
	// Resumed is called when the successor has died, with the cause, and with
	// the Others anew.
	Resumed func(cause error, others []net.Listener)
	// Reload is called on SIGHUP to the keeper.
	Reload func(context.Context)
}

// Serve has s serve on listeners when the keeper says so, and does what it says
// until s has ended. It returns what s.Run does.
//
// Where the keeper gives this generation up before it has begun, it closes the
// listeners and returns an error. When the keeper dies, it drains as when ctx
// ends.
func (w *Worker) Serve(ctx context.Context, s Service, listeners []net.Listener, h Hooks) error {
	if w.keeper == nil {
		return w.serveDirect(ctx, s, listeners, h)
	}
	return w.keeper.serve(ctx, w, s, listeners, h)
}

// serveDirect serves without a keeper.
func (w *Worker) serveDirect(ctx context.Context, s Service, listeners []net.Listener, h Hooks) error {
	w.settle()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { ended <- s.Run(ctx, listeners) })
	if h.Began != nil {
		h.Began()
	}
	reloads := newReloader(ctx, h.Reload)
	defer reloads.stop()
	stopping := false
	for {
		select {
		case err := <-ended:
			return err
		case <-w.stops:
			if stopping {
				w.log.Warn("stopping at once: requests under way are cut")
				_ = s.Close() // Run tells what it cut off
				continue
			}
			stopping = true
			w.log.Info("stopping: finishing the requests under way; a second signal stops at once")
			stop()
		case sig := <-w.others:
			w.signalled(sig, reloads)
		}
	}
}

// reloader runs the reload hook, one at a time; of several asked for meanwhile
// one is kept.
type reloader struct {
	hook    func(context.Context)
	asked   chan func()
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// reloadTimeout bounds a re-read.
const reloadTimeout = 25 * time.Second

func newReloader(ctx context.Context, hook func(context.Context)) *reloader {
	ctx, cancel := context.WithCancel(ctx)
	r := &reloader{hook: hook, asked: make(chan func(), 1), cancel: cancel}
	r.running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case done := <-r.asked:
				if r.hook != nil {
					ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
					r.hook(ctx)
					cancel()
				}
				done()
			}
		}
	})
	return r
}

// ask has the hook called, and done after it. It does not wait.
func (r *reloader) ask(done func()) {
	select {
	case r.asked <- done:
	default:
		done() // one that has not begun reads what is there now
	}
}

func (r *reloader) stop() {
	r.cancel()
	r.running.Wait()
}

// listener is a duplicate of a keeper's socket.
type listener struct {
	net.Listener
	key    string
	alias  bool
	once   sync.Once
	closed func(key string)
}

// Key names the socket, in each process alike.
func (l *listener) Key() string { return l.key }

// SetDeadline bounds Accept.
func (l *listener) SetDeadline(t time.Time) error {
	d, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return fmt.Errorf("set deadline of listener %s: %w", l.key, errors.ErrUnsupported)
	}
	return d.SetDeadline(t)
}

// Close closes the duplicate and tells the keeper.
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() { l.closed(l.key) })
	return err
}
