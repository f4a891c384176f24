package keeper_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/socket"
)

type netListener = net.Listener

// service is a small service with the parts that a keeper needs.
type service struct {
	behaviour behaviour
	worker    *keeper.Worker
	folder    string

	mu        sync.Mutex
	server    *http.Server
	listeners map[string]net.Listener
	accepting sync.WaitGroup
	open      int
	drains    bool
	settled   bool
	closed    bool
	drained   chan struct{} // look again
}

func (s *service) look() {
	select {
	case s.drained <- struct{}{}:
	default:
	}
}

func (s *service) Run(ctx context.Context, listeners []net.Listener) error {
	if err := s.phase("run"); err != nil {
		return err
	}
	s.mu.Lock()
	s.server = &http.Server{Handler: s, ConnState: s.state}
	s.listeners = map[string]net.Listener{}
	s.mu.Unlock()
	for _, ln := range listeners {
		s.accept(ln)
	}
	var broken <-chan time.Time
	if s.behaviour.Breaks > 0 {
		broken = time.After(s.behaviour.Breaks)
	}
	done := ctx.Done()
	for {
		select {
		case <-done:
			done = nil
			s.mu.Lock()
			s.drains, s.settled = true, true
			for _, ln := range s.listeners {
				_ = ln.Close()
			}
			clear(s.listeners)
			s.mu.Unlock()
			s.look()
		case <-broken:
			_ = s.server.Close()
			s.accepting.Wait()
			return errors.New("a listener broke")
		case <-s.drained:
		}
		s.mu.Lock()
		over := s.closed || s.drains && s.settled && s.open == 0 && len(s.listeners) == 0 && !s.behaviour.Stuck
		s.mu.Unlock()
		if over {
			_ = s.server.Close()
			s.accepting.Wait()
			return nil
		}
	}
}

func (s *service) accept(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[socket.KeyOf(ln)] = ln
	s.accepting.Go(func() { _ = s.server.Serve(ln) })
}

func (s *service) state(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open++
	case http.StateClosed, http.StateHijacked:
		s.open--
		s.look()
	case http.StateActive, http.StateIdle:
	}
}

func (s *service) Handover(h keeper.Handover) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains = true
	for key, ln := range s.listeners {
		if _, kept := h.Kept[key]; kept {
			_ = ln.Close()
			delete(s.listeners, key)
		}
	}
	if h.Moves != nil {
		if !s.behaviour.NoAdopt {
			_, _ = io.WriteString(h.Moves, "connections\n")
			_ = h.Moves.Close()
		} // else it is kept open for ever
	}
	s.look()
}

func (s *service) Adopt(ctx context.Context, from *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { _ = from.SetDeadline(time.Now()) })
	defer stop()
	data, err := io.ReadAll(from)
	if len(data) > 0 {
		s.note("adopted " + string(data))
	}
	return errors.Join(err, from.Close())
}

func (s *service) Release(keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if ln := s.listeners[key]; ln != nil {
			time.AfterFunc(10*time.Millisecond, func() {
				_ = ln.Close()
				s.mu.Lock()
				delete(s.listeners, key)
				s.mu.Unlock()
				s.look()
			})
		}
	}
}

func (s *service) Resume(listeners []net.Listener) {
	if s.behaviour.Deaf {
		s.note("is deaf")
		select {}
	}
	s.mu.Lock()
	s.drains = false
	for key, ln := range s.listeners {
		_ = ln.Close()
		delete(s.listeners, key)
	}
	s.mu.Unlock()
	for _, ln := range listeners {
		s.accept(ln)
	}
}

func (s *service) Settle() {
	s.mu.Lock()
	s.settled = true
	s.mu.Unlock()
	s.look()
}

func (s *service) DrainBy(time.Time) { s.note("drain by") }

func (s *service) Held() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]int{"http": s.open}
}

func (s *service) Plain() bool { return true }

func (s *service) Limits() keeper.Limits {
	_ = s.phase("prepare")
	l := keeper.DefaultLimits()
	l.Timeout = 2 * time.Second
	if s.behaviour.Timeout > 0 {
		l.Timeout = s.behaviour.Timeout
	}
	if s.behaviour.Overlap > 0 {
		l.Overlap = s.behaviour.Overlap
	}
	if s.behaviour.Maximum > 0 {
		l.Generations = s.behaviour.Maximum
	}
	return l
}

func (s *service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.look()
	return nil
}
