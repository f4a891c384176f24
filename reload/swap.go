package reload

import (
	"errors"
	"reflect"
	"strings"
	"time"
)

// subscription is a func that follows a section of the config.
type subscription[T any] struct {
	name    string
	section func(*T) any
	notify  func(any)
}

// Subscribe calls notify with a section of the config: at the end of
// [Manager.Start], and after each change in which the section differs from
// before, in the order of the changes. It must be called before Start. notify
// runs on the manager's goroutine, after the new revision came into force, and
// cannot refuse it; it must not block. name is for the log.
func Subscribe[T, S any](m *Manager[T], name string, section func(*T) S, notify func(S)) {
	m.subs = append(m.subs, subscription[T]{
		name:    name,
		section: func(config *T) any { return section(config) },
		notify: func(s any) {
			typed, _ := s.(S)
			notify(typed)
		},
	})
}

// swap brings next into force with one store, tells the subscribers, and lets
// go of the revision before.
func (m *Manager[T]) swap(next *Revision[T]) {
	m.mu.Lock()
	m.alive[next] = struct{}{}
	m.state.fallback = "" // Start sets it after this, where it applies
	m.mu.Unlock()
	previous := m.current.Swap(next)
	for _, s := range m.subs {
		section := s.section(next.Config)
		if previous != nil && reflect.DeepEqual(s.section(previous.Config), section) {
			continue
		}
		m.notify(s, section)
	}
	if previous == nil {
		return
	}
	if len(previous.instances) > 0 {
		previous.grace = time.AfterFunc(m.options.Grace, func() { previous.retired.Do(previous.retire) })
	}
	previous.Release()
}

func (m *Manager[T]) notify(s subscription[T], section any) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("config subscriber", "name", s.name, "error", panicError(p))
		}
	}()
	s.notify(section)
}

// retireRevision gives up what a revision holds. It runs once a revision.
func (m *Manager[T]) retireRevision(r *Revision[T]) {
	m.mu.Lock()
	delete(m.alive, r)
	m.mu.Unlock()
	m.drop(r.instances)
}

// retireAll ends the manager: nothing is in use any more, or its time is up.
func (m *Manager[T]) retireAll() error {
	m.mu.Lock()
	var alive []*Revision[T]
	for r := range m.alive {
		alive = append(alive, r)
	}
	m.mu.Unlock()
	for _, r := range alive {
		if r.grace != nil {
			r.grace.Stop()
		}
		r.retired.Do(r.retire)
	}
	done := make(chan struct{})
	go func() { // ends with the last background task, which may hang for ever
		m.background.Wait()
		close(done)
	}()
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-done:
		return nil
	case <-timeout.C:
		return errors.New("a resource did not finish closing within " + closeTimeout.String())
	}
}

func joinKeys(keys []string) string { return strings.Join(keys, ", ") }
