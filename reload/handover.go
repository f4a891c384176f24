package reload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// handover tells whose turn it is to follow the sources and to write to the
// state folder: this process's, or another one's that was started after it.
type handover struct {
	store *store
	wake  chan struct{} // tells the manager's goroutine that something below has changed; has room for one

	mu         sync.Mutex // guards what follows
	turn       *turn      // the present one of this process, or its last
	away       bool       // another process follows
	restarting bool       // Options.Restart is under way
	back       bool       // Return has been called, and is not done yet
	died       bool       // the same; a later Suspend does not undo it
	cause      error      // of died
}

// turn is a time in which this process follows the sources.
type turn struct {
	over  chan struct{} // closed at its end
	entry Entry         // of the restart that has ended it; zero where none did
}

// ErrHandedOver is returned for a request to a manager after which another
// process follows the sources now: since a restart, or since
// [Manager.Suspend]. The request belongs there. After [Manager.Return] it can
// be made here again.
var ErrHandedOver = errors.New("another process follows the config now")

func newHandover(s *store) *handover {
	return &handover{store: s, wake: make(chan struct{}, 1), turn: &turn{over: make(chan struct{})}}
}

func (h *handover) now() *turn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.turn
}

func (h *handover) isAway() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.away
}

// begin notes that Options.Restart is called now, unless it is too late for it.
func (h *handover) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restarting = !h.away
	return h.restarting
}

// end notes that Options.Restart has returned; entry is set where it has
// succeeded.
func (h *handover) end(entry *Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.restarting {
		return
	}
	h.restarting = false
	if entry != nil {
		h.turn.entry = *entry
		h.away = true
		h.store.close()
	}
	if h.away {
		close(h.turn.over)
		return
	}
	h.back, h.died, h.cause = false, false, nil // there was nothing to return from
}

// Suspend is called when another process has taken over: this one stops
// following the sources and trying again what failed, and writes nothing more
// to the state folder once Suspend has returned. Run goes on, and the revision
// in force stays usable with all that was built from it. It may be called by
// any goroutine, also before Run, and more than once; it waits for a write that
// is under way, but not for a restart: one that was begun here is left to end
// by itself, since Suspend may well be its consequence. After a restart that has
// succeeded the manager suspends itself.
func (m *Manager[T]) Suspend() { m.handover.suspend() }

func (h *handover) suspend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.back = false
	if !h.away {
		h.away = true
		h.store.close()
		if !h.restarting { // whoever waits for a restart hears its outcome
			close(h.turn.over)
		}
	}
	h.signal()
}

// Return is called when the process that has taken over has died, and this one
// is to go on: the manager reads history and pin again, as that process has
// left them, and follows the sources from their present state. The content that
// the process was started for, if a restart from here did it, ends as
// RestartFailed with the text of cause, which must hold no value: its live part
// is applied, and it is not tried again before the sources, or a rollback, have
// had another content. Return may be called by any goroutine as soon as
// Options.Restart has returned, and does not wait; without anything to return
// from it does nothing.
func (m *Manager[T]) Return(cause error) { m.handover.comeBack(cause) }

func (h *handover) comeBack(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.away && !h.restarting {
		return
	}
	h.back = true
	if !h.died {
		h.died, h.cause = true, cause
	}
	h.signal()
}

func (h *handover) signal() {
	select {
	case h.wake <- struct{}{}:
	default: // it is told already
	}
}

// open lets this process write to the state folder, unless another one follows.
func (h *handover) open() (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away {
		return false, nil
	}
	return true, h.store.open()
}

// standBy waits until this process follows again, or ctx ends.
func (m *Manager[T]) standBy(ctx context.Context) {
	for ctx.Err() == nil && m.handover.isAway() {
		if m.takeBack(ctx) {
			return
		}
		select {
		case <-m.handover.wake:
		case <-ctx.Done():
		}
	}
}

var errProcessDied = errors.New("the new process has died")

// takeBack does what Return asks for, and reports whether this process follows
// again.
func (m *Manager[T]) takeBack(ctx context.Context) bool {
	back, died, cause := m.handover.returned()
	left := m.handed
	if died {
		m.handed = nil
	}
	if died && left != nil {
		m.tried = tried{content: left.content, barred: cmp.Or(cause, errProcessDied)}
	}
	if !back {
		return false
	}
	history, err := openHistory(m.store)
	follows, openErr := m.handover.takeTurn()
	if !follows {
		return false
	}
	m.log.Warn("config is followed here again", "cause", cmp.Or(cause, errProcessDied))
	if err := errors.Join(err, openErr); err != nil {
		m.log.Warn("config history", "error", err)
	}
	if m.store != nil && err == nil {
		m.useHistory(history)
	}
	m.store.sweep()
	m.loadPin()
	m.save(m.Load().content) // a last good of the process that died is none
	if died && left != nil {
		m.quarantine(ctx, left)
	}
	if m.tried.again {
		m.retry.Reset(m.tried.pace.next(nil))
	}
	m.tryPin()
	return true
}

// quarantine decides once more about the content whose process has died: its
// restart is barred now.
func (m *Manager[T]) quarantine(ctx context.Context, left *handed) {
	m.mu.Lock()
	pin := m.state.pin
	m.mu.Unlock()
	if pin == nil || pin.hash == left.content.hash {
		m.decide(ctx, left.content, left.entry.Trigger, stages{})
		return
	}
	// A rollback since then wants another content, and nothing of this one.
	entry := left.entry
	entry.At, entry.Outcome, entry.Action, entry.InForce = time.Now().UTC(), RestartFailed, ActionNone, m.Load().ID
	entry.Reason, entry.StagesMS = m.tried.barred.Error(), nil
	m.tried.entry = m.finish(entry, stages{}, rejectedRestart)
}

// returned tells what Return has said.
func (h *handover) returned() (back, died bool, cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	back, died, cause = h.back, h.died, h.cause
	h.died, h.cause = false, nil
	return back, died, cause
}

// takeTurn begins a new turn of this process, unless it was suspended once more.
func (h *handover) takeTurn() (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.back {
		return false, nil
	}
	h.back, h.away = false, false
	h.turn = &turn{over: make(chan struct{})}
	return true, h.store.open()
}

// useHistory replaces the history in memory by the one on disk, which another
// process may have written to.
func (m *Manager[T]) useHistory(h *history) {
	h.inForce = m.Load().ID
	m.history = h
	last := Entry{}
	if n := len(h.entries); n > 0 {
		last = h.entries[n-1]
	}
	m.show(last)
}

// loadPin takes over the pin on disk.
func (m *Manager[T]) loadPin() {
	r, values, err := m.store.load(pinFile)
	if errors.Is(err, fs.ErrNotExist) {
		m.setPin(nil)
		return
	}
	var c content
	if err == nil && r.Identity != m.identity {
		err = fmt.Errorf("it is of another source: %s", r.Identity)
	}
	if err == nil {
		c, err = m.storedContent(r, values)
	}
	if err != nil {
		m.log.Warn("config pin cannot be used", "error", err)
		return
	}
	m.setPin(&c)
}

// tryPin has a pinned content tried that is not in force. So it is where the
// rollback that pinned it needs a restart which has not succeeded so far.
func (m *Manager[T]) tryPin() {
	m.mu.Lock()
	pin := m.state.pin
	m.mu.Unlock()
	if pin == nil || pin.hash == m.Load().content.hash || pin.hash == m.tried.content.hash {
		return
	}
	m.tried = tried{content: *pin, again: true}
	m.retry.Reset(0)
}
