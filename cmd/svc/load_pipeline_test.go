//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pipeline is a client that sends several requests before it reads the answers,
// in pieces that end anywhere.
type pipeline struct {
	dial   func() (net.Conn, error)
	last   *atomic.Uint64 // id given
	random *rand.Rand
	always bool // there is always the begin of a next request on the way
	stop   <-chan struct{}

	nc     net.Conn
	reader *bufio.Reader
	begun  uint64 // a request of which some bytes are sent; 0: none
	rest   string // of it

	sent     []uint64 // requests that were answered
	refused  []uint64 // that came after the server had said that it takes no more
	kept     int      // bursts without a new connection
	told     int      // connections that it ended so
	failures []error
}

// run sends until stop is closed, and then completes what it has begun.
func (p *pipeline) run() {
	defer func() {
		if p.nc != nil {
			_ = p.nc.Close()
		}
	}()
	for last := false; !last && len(p.failures) == 0; {
		select {
		case <-p.stop:
			last = true
		default:
		}
		if err := p.burst(last); err != nil {
			p.failures = append(p.failures, err)
		}
		if !p.always && p.random.IntN(3) == 0 {
			time.Sleep(time.Duration(p.random.IntN(30)) * time.Millisecond)
		}
	}
}

// burst sends some requests and up to three bytes of another one, and reads the
// answers.
func (p *pipeline) burst(last bool) error {
	if p.nc == nil {
		var err error
		if p.nc, err = p.dial(); err != nil {
			return err
		}
		p.reader = bufio.NewReader(p.nc)
	}
	var ids []uint64
	text := p.rest
	if p.begun != 0 {
		ids = append(ids, p.begun)
	}
	for range 1 + p.random.IntN(3) {
		id := p.last.Add(1)
		ids = append(ids, id)
		text += postOf(id)
	}
	p.begun, p.rest = 0, ""
	if extra := p.random.IntN(4); !last && (extra > 0 || p.always) {
		extra = max(extra, 1)
		p.begun = p.last.Add(1)
		whole := postOf(p.begun)
		text, p.rest = text+whole[:extra], whole[extra:]
	}
	if err := p.write(text); err != nil {
		return err
	}
	for i, id := range ids {
		a, err := readAnswered(p.reader)
		switch {
		case err != nil:
			return fmt.Errorf("answer %d of %d: %w", i+1, len(ids), err)
		case a.status != http.StatusOK || a.id != id:
			return fmt.Errorf("answer %d of %d: %+v, want one to %d", i+1, len(ids), a, id)
		}
		p.sent = append(p.sent, id)
		if a.last {
			return p.leave(ids[i+1:])
		}
	}
	if p.reader.Buffered() > 0 {
		return errors.New("bytes came that nobody had asked for")
	}
	p.kept++
	return nil
}

// write sends in two pieces.
func (p *pipeline) write(text string) error {
	cut := p.random.IntN(len(text))
	if _, err := io.WriteString(p.nc, text[:cut]); err != nil {
		return err
	}
	if p.random.IntN(4) == 0 {
		time.Sleep(time.Duration(p.random.IntN(3000)) * time.Microsecond)
	}
	_, err := io.WriteString(p.nc, text[cut:])
	return err
}

// leave ends a connection on which the server takes no more.
func (p *pipeline) leave(refused []uint64) error {
	p.told++
	p.refused = append(p.refused, refused...)
	if p.begun != 0 {
		p.refused = append(p.refused, p.begun)
	}
	p.begun, p.rest = 0, ""
	_ = p.nc.Close()
	p.nc = nil
	return nil
}

// TestRestartsUnderPipelining: requests that come before the answers to earlier
// ones, and the begin of one that is not there yet, are neither lost nor mangled.
func TestRestartsUnderPipelining(t *testing.T) {
	for _, c := range []struct {
		name   string
		always bool
		drain  time.Duration
	}{
		{"now and then idle", false, 0},
		// It is never a moment at which the connection could move.
		{"never idle", true, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startRecorder(t, "tcp", false, recorder{Generations: 30, Timeout: c.drain})
			stop := make(chan struct{})
			var last atomic.Uint64
			var running sync.WaitGroup
			all := make([]*pipeline, 24)
			for i := range all {
				all[i] = &pipeline{
					last: &last, stop: stop, always: c.always,
					random: rand.New(rand.NewPCG(1, uint64(i))),
					dial: func() (net.Conn, error) {
						var d net.Dialer
						nc, err := d.DialContext(context.Background(), "tcp", r.target.Address)
						if err != nil {
							return nil, err
						}
						return nc, nc.SetDeadline(time.Now().Add(60 * time.Second))
					},
				}
				running.Go(all[i].run)
			}
			time.Sleep(200 * time.Millisecond)
			for range 10 {
				r.restart()
				time.Sleep(400 * time.Millisecond)
			}
			if c.drain > 0 {
				time.Sleep(c.drain)
			}
			close(stop)
			running.Wait()
			r.alone()
			executed := r.executed()
			answers, kept, told, refused := 0, 0, 0, 0
			for i, p := range all {
				for _, err := range p.failures {
					t.Errorf("client %d: %v", i, err)
				}
				for _, id := range p.sent {
					if executed[id] != 1 {
						t.Errorf("request %d was answered, and executed %d times", id, executed[id])
					}
					delete(executed, id)
				}
				for _, id := range p.refused {
					if executed[id] != 0 {
						t.Errorf("request %d was executed after the last answer", id)
					}
				}
				answers, kept, told, refused = answers+len(p.sent), kept+p.kept, told+p.told, refused+len(p.refused)
			}
			for id, times := range executed {
				t.Errorf("request %d was executed %d times, and not answered", id, times)
			}
			t.Logf("%d answers, %d bursts, %d connections told to end, %d requests behind that", answers, kept, told, refused)
			if answers == 0 || !c.always && told > 0 {
				t.Errorf("%d answers, %d told to end", answers, told)
			}
		})
	}
}
