package liveconn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// operation is a Read or Write under way.
type operation struct {
	done chan struct{}
	n    int
	err  error
	at   time.Time
}

func start(f func() (int, error)) *operation {
	o := &operation{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.n, o.err = f()
		o.at = time.Now()
	}()
	return o
}

func (o *operation) over() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// doing is where net/http stands, in the model.
type doing string

const (
	doingHeader doing = "reads a header"
	doingBody   doing = "a handler runs, and the body is not read"
	doingServe  doing = "a handler runs, and the body is read"
	doingIdle   doing = "waits for a request"
	doingCustom doing = "hijacked"
)

// model says when the operations on a connection must end, and drives the
// connection as net/http does.
type model struct {
	registry  *Registry
	timeouts  Timeouts
	conn      *Conn
	peer      net.Conn
	doing     doing
	peeking   bool      // the header's first bytes are not whole yet
	readStart time.Time // of the phase
	writing   time.Time // when the answer began; zero: not yet
	ownRead   *time.Time
	ownWrite  *time.Time
	read      *operation
	write     *operation
	unwritten int
	broken    bool // an operation of the handler has failed
}

func (m *model) open() {
	ours, theirs := net.Pipe()
	*m = model{registry: m.registry, timeouts: m.timeouts, conn: m.registry.add(theirs, ListenerOptions{}), peer: ours, doing: doingHeader, readStart: time.Now()}
	m.startRead(4096)
}

func (m *model) startRead(n int) {
	c := m.conn
	m.read = start(func() (int, error) { return c.Read(make([]byte, n)) })
}

// drop closes the connection as its owner does, and begins another.
func (m *model) drop() error {
	_ = m.conn.Close()
	if m.doing != doingCustom {
		m.registry.ConnState(m.conn, http.StateClosed)
	}
	_ = m.peer.Close()
	synctest.Wait()
	if !m.registry.Empty() {
		return errors.New("a closed connection is registered")
	}
	m.open()
	return nil
}

// readEnd is when a Read must end; zero is never.
func (m *model) readEnd() time.Time {
	end := func(d time.Duration) time.Time {
		if d == 0 {
			return time.Time{}
		}
		return m.readStart.Add(d)
	}
	if m.ownRead != nil {
		return *m.ownRead
	}
	switch m.doing {
	case doingHeader:
		d := m.timeouts.ReadHeader
		if d == 0 || m.timeouts.Read != 0 && m.timeouts.Read < d {
			d = m.timeouts.Read
		}
		return end(d)
	case doingIdle:
		return end(m.timeouts.Idle)
	case doingBody:
		return end(m.timeouts.Read)
	}
	return time.Time{}
}

// writeEnd is when a Write must end; zero is never.
func (m *model) writeEnd() time.Time {
	switch {
	case m.ownWrite != nil:
		return *m.ownWrite
	case m.doing == doingCustom || m.timeouts.Write == 0:
		return time.Time{}
	}
	return m.writing.Add(m.timeouts.Write)
}

// check compares what is under way with the model; since is when the last step
// began. over means that the operation was and had to be.
func check(what string, o *operation, end, since time.Time) (over bool, _ error) {
	now := time.Now()
	switch {
	case end.IsZero() || end.After(now):
		if o.over() {
			return true, fmt.Errorf("%s has ended, and its end is in %v: %w", what, end.Sub(now), o.err)
		}
		return false, nil
	case !o.over():
		return false, fmt.Errorf("%s goes on, and its end was %v ago", what, now.Sub(end))
	case !errors.Is(o.err, os.ErrDeadlineExceeded):
		return true, fmt.Errorf("%s has ended with %w", what, o.err)
	}
	if want := later(end, since); !o.at.Equal(want) {
		return true, fmt.Errorf("%s has ended %v after its end", what, o.at.Sub(want))
	}
	return true, nil
}

func (m *model) checkAll(since time.Time) error {
	synctest.Wait()
	if m.write != nil {
		over, err := check("the write", m.write, m.writeEnd(), since)
		if err != nil {
			return err
		}
		if over {
			m.write, m.broken = nil, m.doing != doingCustom
			if _, err := m.conn.Write(nil); m.broken && err == nil {
				return errors.New("a write after a write timeout succeeds")
			}
		}
	}
	if m.read != nil {
		over, err := check("the read", m.read, m.readEnd(), since)
		if err != nil {
			return err
		}
		if over {
			m.read, m.broken = nil, m.doing != doingCustom
		}
	}
	if m.broken {
		return m.drop()
	}
	sum := 0
	for _, n := range m.registry.Counts() {
		sum += n
	}
	if sum != 1 {
		return fmt.Errorf("%d connections are counted", sum)
	}
	return nil
}

func (m *model) serving() bool { return m.doing == doingBody || m.doing == doingServe }

// play does one step.
func (m *model) play(s step) error {
	switch s.what {
	case "sleep":
		time.Sleep(s.d)
	case "timeouts":
		m.timeouts = s.timeouts
		m.registry.SetTimeouts(s.timeouts)
	case "bytes":
		return m.bytes(s)
	case "read":
		if m.doing == doingBody && m.read == nil && m.write == nil || m.doing == doingCustom && m.read == nil {
			m.startRead(100)
		}
	case "end of body":
		if m.doing == doingBody && m.read == nil && m.write == nil {
			m.background()
		}
	case "write":
		if m.serving() && m.write == nil && (m.doing != doingBody || m.read == nil && m.ownRead == nil) ||
			m.doing == doingCustom && m.write == nil {
			if m.writing.IsZero() {
				m.writing = time.Now()
			}
			m.unwritten = s.n
			c := m.conn
			m.write = start(func() (int, error) { return c.Write(make([]byte, s.n)) })
		}
	case "drain":
		return m.drain(s.n)
	case "own read":
		if m.doing == doingServe || m.doing == doingCustom || m.doing == doingBody && m.writing.IsZero() {
			own := ownDeadline(s.d)
			m.ownRead = &own
			return m.conn.SetReadDeadline(own)
		}
	case "own write":
		if m.serving() || m.doing == doingCustom {
			own := ownDeadline(s.d)
			m.ownWrite = &own
			return m.conn.SetWriteDeadline(own)
		}
	case "finish":
		return m.finish(s.yes)
	case "hijack":
		return m.hijack()
	case "close":
		return m.drop()
	}
	return nil
}

func ownDeadline(d time.Duration) time.Time {
	switch {
	case d == 0:
		return time.Time{}
	case d < 0:
		return longAgo()
	}
	return time.Now().Add(d)
}

// bytes is the arrival of a byte.
func (m *model) bytes(s step) error {
	if m.read == nil {
		return nil
	}
	if _, err := m.peer.Write([]byte("x")); err != nil {
		return err
	}
	if <-m.read.done; m.read.n != 1 || m.read.err != nil {
		return fmt.Errorf("read %d bytes of one, %w", m.read.n, m.read.err)
	}
	m.read = nil
	switch m.doing {
	case doingBody:
		m.writing = time.Time{}
		return nil
	case doingServe, doingCustom:
		return nil
	case doingIdle:
		m.doing, m.peeking, m.readStart = doingHeader, true, time.Now()
	}
	if m.peeking && (s.yes || s.body) {
		m.peeking = false
		if err := m.conn.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	if !s.yes {
		m.startRead(4096)
		return nil
	}
	err := m.conn.SetReadDeadline(time.Time{})
	m.registry.ConnState(m.conn, http.StateActive)
	m.doing, m.writing = doingBody, time.Time{}
	if !s.body {
		m.background()
	}
	return err
}

// background begins the read that only sees the client go away.
func (m *model) background() {
	m.doing = doingServe
	own := time.Time{} // net/http clears what the handler may have set
	m.ownRead = &own
	_ = m.conn.SetReadDeadline(own)
	m.startRead(1)
}

func (m *model) drain(n int) error {
	if m.write == nil {
		return nil
	}
	n = min(n, m.unwritten)
	if _, err := io.ReadFull(m.peer, make([]byte, n)); err != nil {
		return err
	}
	if m.unwritten -= n; m.unwritten > 0 {
		return nil
	}
	if <-m.write.done; m.write.err != nil {
		return m.write.err
	}
	m.write = nil
	return nil
}

// abort interrupts the background read.
func (m *model) abort() error {
	if m.read == nil {
		return nil
	}
	if err := m.conn.SetReadDeadline(longAgo()); err != nil {
		return err
	}
	if <-m.read.done; !errors.Is(m.read.err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the background read was interrupted with %w", m.read.err)
	}
	m.read = nil
	return m.conn.SetReadDeadline(time.Time{})
}

// finish is the end of a request; glued means that a part of the next one is
// in the buffer.
func (m *model) finish(glued bool) error {
	if !m.serving() || m.write != nil || m.doing == doingBody && m.read != nil {
		return nil
	}
	if err := errors.Join(m.abort(), m.conn.SetWriteDeadline(time.Time{})); err != nil {
		return err
	}
	m.registry.ConnState(m.conn, http.StateIdle)
	m.ownRead, m.ownWrite, m.writing = nil, nil, time.Time{}
	m.doing, m.readStart = doingIdle, time.Now()
	err := m.conn.SetReadDeadline(time.Time{})
	if glued && err == nil {
		m.doing, m.peeking = doingHeader, false
		err = m.conn.SetReadDeadline(time.Time{})
	}
	m.startRead(4096)
	return err
}

func (m *model) hijack() error {
	if !m.serving() || m.write != nil || m.doing == doingBody && m.read != nil {
		return nil
	}
	err := errors.Join(m.abort(), m.conn.SetDeadline(time.Time{}))
	m.registry.ConnState(m.conn, http.StateHijacked)
	never := time.Time{}
	m.doing, m.ownRead, m.ownWrite = doingCustom, &never, &never
	return err
}

// Whatever a client, net/http and handlers do, and whenever the timeouts change,
// each Read and Write ends at the very time that the description of the package
// says, and never sooner.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := steps().Draw(rt, "steps")
		var broke error
		synctest.Test(t, func(*testing.T) {
			m := &model{registry: NewRegistry(Timeouts{})}
			m.open()
			for i, s := range script {
				since := time.Now()
				if broke = m.play(s); broke == nil {
					broke = m.checkAll(since)
				}
				if broke != nil {
					broke = fmt.Errorf("step %d, %s, while it %s: %w", i, s.what, m.doing, broke)
					break
				}
			}
			_ = m.conn.Close()
			_ = m.peer.Close()
		})
		if broke != nil {
			rt.Fatal(broke)
		}
	})
}
