package liveconn

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client speaks HTTP/2 frame by frame.
type h2Client struct {
	*client
	t      *testing.T
	mu     sync.Mutex // of the framer's writes
	framer *http2.Framer
	ended  chan struct{} // the server has closed the connection

	seen   sync.Mutex // guards what follows
	frames []string
	body   map[uint32]int // bytes of DATA
}

// h2 opens a connection, and is idle on it when it returns.
func (s *service) h2(t *testing.T, settings ...http2.Setting) *h2Client {
	t.Helper()
	c := &h2Client{client: s.connect(t, "h2"), t: t, ended: make(chan struct{}), body: map[uint32]int{}}
	c.framer = http2.NewFramer(c.Conn, c.r)
	c.mu.Lock() // what the reader writes comes after the preface
	go c.read()
	_, err := io.WriteString(c, http2.ClientPreface)
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.write(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
	synctest.Wait()
	return c
}

func (c *h2Client) write(f func(*http2.Framer) error) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f(c.framer); err != nil {
		c.t.Error(err)
	}
}

func (c *h2Client) read() {
	defer close(c.ended)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		word := ""
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.write(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
			}
		case *http2.GoAwayFrame:
			word = "goaway " + f.ErrCode.String()
			if f.LastStreamID != 1<<31-1 {
				word += ", not all streams"
			}
		case *http2.RSTStreamFrame:
			word = "reset " + f.ErrCode.String()
		case *http2.HeadersFrame:
			word = "headers"
		}
		c.seen.Lock()
		if word != "" {
			c.frames = append(c.frames, word)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			c.body[d.StreamID] += len(d.Data())
			if d.StreamEnded() {
				c.frames = append(c.frames, "end")
			}
		}
		c.seen.Unlock()
	}
}

func (c *h2Client) has(word string) bool {
	c.seen.Lock()
	defer c.seen.Unlock()
	return slices.Contains(c.frames, word)
}

// open starts a request; with a body, it stays open.
func (c *h2Client) open(stream uint32, body bool) {
	c.t.Helper()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	method := "GET"
	if body {
		method = "POST"
	}
	for _, h := range [][2]string{{":method", method}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: !body,
		})
	})
}

// at checks, some time from began on, whether something is so.
func at(t *testing.T, began time.Time, d time.Duration, what string, want bool, is func() bool) {
	t.Helper()
	time.Sleep(time.Until(began.Add(d)))
	synctest.Wait()
	if is() != want {
		t.Errorf("after %v: %s: %v, want %v", d, what, !want, want)
	}
}

func (c *h2Client) closed() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

const goAway = "goaway NO_ERROR"

func inEach(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tr := range h2Transports() {
		t.Run(tr.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, tr) }) })
	}
}

const tick = time.Millisecond

func (c *h2Client) count(word string) int {
	c.seen.Lock()
	defer c.seen.Unlock()
	return strings.Count(strings.Join(c.frames, "\n"), word)
}
