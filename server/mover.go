package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

const (
	// movePace is the time that is given to a connection: at most a batch of 253
	// each 5 ms. The process that gets them has others to serve.
	movePace = 20 * time.Microsecond
	// moveTimeout bounds the wait for the receiver.
	moveTimeout = 5 * time.Second
	// moveGather is how long those that were asked have to come together for a
	// batch.
	moveGather = 2 * time.Millisecond
	// sweepPause is how long after a pass over all connections another one looks
	// for those that it missed.
	sweepPause = time.Second
)

// mover sends connections to a successor, until it is stopped or cannot.
type mover struct {
	registry *liveconn.Registry
	stream   *net.UnixConn
	cancel   context.CancelFunc
	done     chan struct{} // closed at the end; what follows is set then
	left     []*liveconn.Conn
	err      error
}

// startMover begins to send what the registry detaches. ended is called at the end.
func startMover(ctx context.Context, r *liveconn.Registry, stream *net.UnixConn, ended func()) *mover {
	ctx, cancel := context.WithCancel(ctx)
	m := &mover{registry: r, stream: stream, cancel: cancel, done: make(chan struct{})}
	// A wait for the receiver ends then, with its answer if it has sent one.
	stop := context.AfterFunc(ctx, func() { _ = stream.CloseRead() })
	go func() {
		defer ended()
		defer close(m.done)
		m.err = m.run(ctx)
		stop()
		if err := stream.Close(); m.err == nil && err != nil {
			m.err = fmt.Errorf("close stream of moved connections: %w", err)
		}
	}()
	return m
}

func (m *mover) over() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// stop ends the mover and returns the connections that the receiver has not
// taken.
func (m *mover) stop() []*liveconn.Conn {
	m.cancel()
	<-m.done
	return m.left
}

func (m *mover) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	sweep := m.registry.Sweep()
	asked := 0 // to leave, and not taken yet
	for ctx.Err() == nil {
		if sweep != nil && asked < maxBatch {
			// While a batch is sent, those of the next one come together.
			n := sweep.Next(2*maxBatch - asked)
			if asked += n; asked < 2*maxBatch {
				sweep = nil
			}
		}
		if !m.gather(ctx, timer, asked) {
			if asked == 0 && sweep == nil {
				sweep = m.registry.Sweep()
			}
			asked = 0 // they had something to do, or another sweep finds them
			continue
		}
		conns := m.registry.Take(maxBatch)
		asked = max(0, asked-len(conns))
		began := time.Now()
		if err := m.send(conns, began); err != nil {
			m.left = conns
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("move connections: %w", err)
		}
		m.registry.Moved(conns)
		if pause := time.Duration(len(conns))*movePace - time.Since(began); pause > 0 {
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// gather waits until there are connections to send: as many as were asked, or
// what has come of them in a moment; or any, where none was. It reports whether
// there are.
func (m *mover) gather(ctx context.Context, timer *time.Timer, asked int) bool {
	limit := sweepPause
	if asked > 0 {
		limit = moveGather
	}
	timer.Reset(limit)
	for {
		leaving := m.registry.Leaving()
		if leaving > 0 && leaving >= min(asked, maxBatch) {
			return true
		}
		select {
		case <-m.registry.Detached():
		case <-timer.C:
			return m.registry.Leaving() > 0
		case <-ctx.Done():
			return false
		}
	}
}

// send gives a batch to the receiver. With an error it has taken none of it, and
// never will.
func (m *mover) send(conns []*liveconn.Conn, now time.Time) error {
	message, err := encodeBatch(conns, now)
	if err != nil {
		return err
	}
	if err := m.stream.SetDeadline(now.Add(moveTimeout)); err != nil {
		return err
	}
	if err := writeBatch(m.stream, message, conns); err != nil {
		return err // a receiver that has only a part does not answer
	}
	err = m.answer()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// From here on it cannot answer, and what it has sent is there.
		_ = m.stream.CloseRead()
		_ = m.stream.SetReadDeadline(time.Time{})
		err = m.answer()
	}
	return err
}

func (m *mover) answer() error {
	answer := make([]byte, 1)
	if _, err := m.stream.Read(answer); err != nil {
		return fmt.Errorf("wait for the receiver: %w", err)
	}
	if answer[0] != movesVersion {
		return fmt.Errorf("the receiver has answered with %d", answer[0])
	}
	return nil
}
