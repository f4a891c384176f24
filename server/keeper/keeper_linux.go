package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The times of the state machine; see the package's description.
const (
	// probation is how long after the commit the generation before can still
	// take over again.
	probation = 2 * time.Second
	// acceptTime is from the commit to the worker's word that it accepts, and from
	// the death of a successor to the word that the one before accepts again.
	acceptTime = 5 * time.Second
	// drainGrace is what a worker gets to end by itself after its drain should
	// have ended.
	drainGrace = 5 * time.Second
	// dumpTime is what a stuck worker gets to write its goroutines.
	dumpTime = 2 * time.Second
	// goneTime is from the end of the control pair to that of the process, or the
	// other way round.
	goneTime = 5 * time.Second
	// squeezeTime is what the oldest generation gets when there are too many.
	squeezeTime = time.Second
	// reloadTime bounds what a re-read may take to answer.
	reloadTime = 30 * time.Second
	// patience is how long a first start waits for an address that the workers
	// of a killed keeper have not closed yet.
	patience = 5 * time.Second
	// A crashed worker is started again after firstPause, and twice as long each
	// time it crashes within steady.
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	steady     = 10 * time.Second
	// maxTries is how often a restart begins anew because the content in force
	// has changed meanwhile.
	maxTries = 3
)

// keeper is the state machine. One goroutine runs it and has all of its fields;
// the others send it events.
type keeper struct {
	options Options
	log     *slog.Logger
	program program
	manager *manager
	events  chan event
	ended   chan struct{} // closed when nobody takes events any more
	workers sync.WaitGroup

	since   time.Time
	sockets sockets
	alive   []*generation // oldest first
	last    int           // number given

	serving  *generation
	next     *generation // not accepting yet
	previous *generation // can take over again
	attempt  *attempt    // what next is for; nil when there is none
	newer    *attempt    // what comes after it: one that brings a content,
	later    *attempt    // and then one that brings none
	// content is what a successor of a crashed worker starts with; -1: what its
	// sources say.
	content int
	states  map[string]int

	lastRestart *Restart
	done        uint64  // restarts
	seconds     float64 // of those
	failures    uint64  // of restarts
	trouble     string
	crashes     int       // in a row
	respawn     time.Time // when a worker is started again; zero: none is missing
	reloads     map[int64]time.Time
	questions   int64
	nextAlive   time.Time // when the service manager must hear of us
	ready       bool      // a generation has served
	unclean     bool      // the keeper before was killed
	stopping    bool
	fatal       error
}

// event is something that has happened; one of the fields is set.
type event struct {
	from    *generation
	message *message
	files   []int
	deaf    error // the end of from's messages
	opened  []opened
	wanted  []request // that opened answers
	id      int64     // of its question
	ask     *question
}

// post hands an event to the state machine. It reports whether it was taken.
func (k *keeper) post(e event) bool {
	select {
	case k.events <- e:
		return true
	case <-k.ended:
		return false
	}
}

// run is the state machine's goroutine. It returns when no worker is left.
func (k *keeper) run(ctx context.Context, signals, children <-chan os.Signal) error {
	defer k.close()
	done := ctx.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // nothing is opened any more
	k.begin(ctx, &attempt{reason: "start", at: time.Now(), content: -1})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(k.alive) > 0 || !k.stopping && k.fatal == nil {
		timer.Reset(time.Until(k.due()))
		select {
		case e := <-k.events:
			k.handle(ctx, e)
		case <-children:
			k.died(ctx, reap())
		case s := <-signals:
			k.signal(ctx, s)
		case <-done:
			done = nil
			k.stop("its context has ended")
		case <-timer.C:
		}
		k.tick(ctx, time.Now())
	}
	return k.fatal
}

func (k *keeper) handle(ctx context.Context, e event) {
	switch {
	case e.message != nil:
		k.message(ctx, e.from, *e.message, e.files)
	case e.deaf != nil:
		k.deaf(ctx, e.from, e.deaf)
	case e.ask != nil:
		k.answer(ctx, e.ask)
	default:
		k.opened(e) //nolint:contextcheck // what Admit opens does not block
	}
}

// signal obeys a signal to the keeper's process.
func (k *keeper) signal(ctx context.Context, s os.Signal) {
	switch s {
	case unix.SIGHUP:
		k.reload()
	case unix.SIGUSR2:
		k.log.Info("restart on signal")
		k.request(ctx, &attempt{reason: "signal USR2", at: time.Now(), content: -1})
	case unix.SIGQUIT:
		dump(k.options.Stderr)
		for _, g := range k.alive {
			k.send(g, message{Kind: kindDump})
		}
	default:
		k.stop("signal " + s.String())
	}
}

// due is when tick has something to do.
func (k *keeper) due() time.Time {
	due := time.Now().Add(time.Hour)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(due) {
			due = t
		}
	}
	for _, g := range k.alive {
		sooner(g.deadline)
	}
	for _, l := range k.sockets.list {
		sooner(k.retireDue(l))
	}
	for _, t := range k.reloads {
		sooner(t)
	}
	sooner(k.respawn)
	sooner(k.nextAlive)
	return due
}

// tick does what is due.
func (k *keeper) tick(ctx context.Context, now time.Time) {
	over := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	for _, g := range slices.Clone(k.alive) {
		if over(g.deadline) {
			k.escalate(g, now)
		}
	}
	k.retire(now)
	maps.DeleteFunc(k.reloads, func(id int64, t time.Time) bool {
		if !over(t) {
			return false
		}
		k.log.Warn("re-read has not answered", "question", id)
		k.tellReady()
		return true
	})
	if over(k.respawn) && !k.stopping {
		content := k.content
		if k.crashes%2 == 0 {
			// What was in force does not start any more, or only to crash. The
			// sources may have something better by now.
			content = -1
		}
		k.begin(ctx, &attempt{reason: k.trouble, at: now, content: duplicate(content)})
	}
	if k.manager.watchdog > 0 && over(k.nextAlive) {
		k.nextAlive = now.Add(k.manager.watchdog)
		k.manager.alive()
	}
	if err := k.sockets.sweep(); err != nil {
		k.log.Warn("listening socket", "error", err)
	}
}

// send tells a generation something. One that does not take it is ended.
func (k *keeper) send(g *generation, m message, files ...int) bool {
	if g.deaf {
		return false
	}
	if err := g.control.send(m, files...); err != nil {
		if errors.Is(err, errMessage) { // it is too large, which is not the generation's fault
			k.log.Error("generation cannot be told", "generation", g.number, "error", err)
			return false
		}
		if !g.gone && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
			k.log.Error("generation does not take messages", "generation", g.number, "error", err)
			g.kill("it did not take messages: " + err.Error())
		}
		return false
	}
	return true
}

// reload has the sources read again.
func (k *keeper) reload() {
	if k.serving == nil {
		k.log.Warn("re-read on signal: no generation serves")
		if k.ready && !k.stopping {
			k.manager.reloading("re-reading the sources")
			k.tellReady() // or it waits for that
		}
		return
	}
	k.questions++
	k.reloads[k.questions] = time.Now().Add(reloadTime)
	k.manager.reloading("re-reading the sources")
	k.send(k.serving, message{Kind: kindReload, ID: k.questions})
}

// tellReady ends what reloading has begun. It is not said before the first start
// has succeeded, which it would end, nor when the service stops.
func (k *keeper) tellReady() {
	if k.ready && !k.stopping {
		k.manager.ready(k.summary())
	}
}

// summary is the table in one line.
func (k *keeper) summary() string {
	if len(k.alive) == 0 {
		return "no generation: " + k.trouble
	}
	parts := make([]string, 0, len(k.alive))
	for _, g := range k.alive {
		parts = append(parts, fmt.Sprintf("generation %d %s", g.number, g.state))
	}
	return strings.Join(parts, ", ")
}

// close leaves nothing behind.
func (k *keeper) close() {
	close(k.ended)
	for _, l := range k.sockets.list {
		_ = l.end() // nobody uses it any more
	}
	closeFiles(slices.Collect(maps.Values(k.states)))
	if k.content >= 0 {
		closeFiles([]int{k.content})
	}
	for {
		select {
		case e := <-k.events: // posted before ended was closed
			closeFiles(e.files)
			endOpened(e.opened)
			continue
		default:
		}
		break
	}
}

// duplicate is a descriptor of the same file; -1 for -1 and where there are no
// more.
func duplicate(fd int) int {
	if fd < 0 {
		return -1
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return dup
}

// notifications are the signals that the keeper obeys, and those that tell that
// a child has ended: beside the others, one of them might find no room.
func notifications() (signals, children chan os.Signal, end func()) {
	signals, children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR2, unix.SIGQUIT)
	signal.Notify(children, unix.SIGCHLD)
	return signals, children, func() {
		signal.Stop(signals)
		signal.Stop(children)
	}
}
