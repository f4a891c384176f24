package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/socket"
)

// link is a worker's end of the pair.
type link struct {
	channel *channel
	log     *slog.Logger
	stderr  io.Writer
	// orders are the messages that are no answers. Serve takes them.
	orders chan order
	cancel context.CancelFunc // ends the work
	gone   chan struct{}      // closed when the keeper is

	mu      sync.Mutex // guards what follows
	last    int64
	pending map[int64]chan order // each has room for the one answer
	started bool                 // Serve takes the orders

	held sync.Mutex     // guards open, and the order of what the keeper is told of it
	open map[string]int // listeners by key: after a resume there may be two for a moment
}

// order is a message from the keeper, with its files.
type order struct {
	message
	files []int
}

const (
	// helloTime bounds the wait for the first message, which is there already.
	helloTime = 10 * time.Second
	// maxOrders is more than a keeper has to say before anybody listens.
	maxOrders = 64
	// maxRelayed is how many states of other generations wait to be taken.
	maxRelayed = 8
)

// runWorker is the process that does the work.
func runWorker(ctx context.Context, o Options, work func(context.Context, *Worker) error) error {
	// What this process starts must not take itself for a worker.
	if err := os.Unsetenv(workerMark); err != nil {
		return fmt.Errorf("start as worker: %w", err)
	}
	conn, err := unixConn(controlFD)
	if err != nil {
		return fmt.Errorf("start as worker: %w", err)
	}
	l := &link{
		channel: newChannel(conn), log: o.Logger, stderr: o.Stderr,
		orders: make(chan order, maxOrders), gone: make(chan struct{}), pending: map[int64]chan order{},
		open: map[string]int{},
	}
	defer l.channel.close()
	crash := os.NewFile(crashFD, "crash")
	err = errors.Join(debug.SetCrashOutput(crash, debug.CrashOptions{}), crash.Close())
	if err != nil {
		return fmt.Errorf("start as worker: %w", err)
	}
	w, err := l.greet(o)
	if err != nil {
		return fmt.Errorf("start as worker: %w", err)
	}
	ctx, end := w.catch(ctx)
	defer end()
	ctx, l.cancel = context.WithCancel(ctx)
	defer l.cancel()
	var listening sync.WaitGroup
	listening.Go(func() { l.listenToKeeper(w) })
	err = work(ctx, w)
	if err != nil {
		var kind interface{ Retryable() bool }
		failed := message{Kind: kindFailed, Error: err.Error(), Retryable: errors.Is(err, context.Canceled) || errors.As(err, &kind) && kind.Retryable()}
		if l.channel.send(failed) == nil {
			err = nil // it is told
		}
	}
	// The reader ends with the connection.
	l.channel.close()
	listening.Wait()
	return err
}

// greet is the first exchange.
func (l *link) greet(o Options) (*Worker, error) {
	if err := l.channel.send(message{Kind: kindHello, Protocol: protocolVersion, PID: os.Getpid(), Version: o.Version}); err != nil {
		return nil, err
	}
	if err := l.channel.conn.SetReadDeadline(time.Now().Add(helloTime)); err != nil {
		return nil, err
	}
	m, files, err := l.channel.receive()
	if err != nil {
		return nil, err
	}
	defer func() { closeFiles(files) }()
	if err := l.channel.conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if m.Kind != kindStart {
		return nil, fmt.Errorf("%w: %s instead of %s", errMessage, m.Kind, kindStart)
	}
	w := &Worker{
		log: o.Logger, stderr: o.Stderr, keeper: l, start: m,
		states: map[string][]byte{}, settled: make(chan struct{}), relayed: make(chan Relayed, maxRelayed),
	}
	rest := files
	next := func() ([]byte, error) {
		if len(rest) == 0 {
			return nil, fmt.Errorf("%w: a file is missing", errMessage)
		}
		data, err := readBlob(rest[0])
		rest = rest[1:]
		return data, err
	}
	if m.Content {
		if w.content, err = next(); err != nil {
			return nil, err
		}
	}
	for _, name := range m.States {
		if w.states[name], err = next(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// listenToKeeper hands on what the keeper says, until one of the two ends.
func (l *link) listenToKeeper(w *Worker) {
	defer func() {
		// The keeper is gone, or this worker is: nothing is asked or obeyed any
		// more, and what runs ends in order.
		close(l.gone)
		l.cancel()
	}()
	for {
		m, files, err := l.channel.receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				l.log.Error("keeper says what is no message", "error", err)
			}
			return
		}
		switch m.Kind {
		case kindSockets, kindResult, kindTable:
			l.answered(order{m, files})
		case kindDump:
			closeFiles(files)
			dump(l.stderr)
		case kindRelayed:
			l.relay(w, order{m, files})
		default:
			if (m.Kind == kindStop || m.Kind == kindStopNow) && !l.serving() {
				l.cancel()
			}
			select {
			case l.orders <- order{m, files}:
			default:
				closeFiles(files)
				l.log.Error("keeper's order is lost: too many at once", "order", m.Kind)
			}
		}
	}
}

func (l *link) serving() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

func (l *link) answered(o order) {
	l.mu.Lock()
	answer := l.pending[o.ID]
	delete(l.pending, o.ID)
	l.mu.Unlock()
	if answer == nil {
		closeFiles(o.files) // who asked has gone
		return
	}
	answer <- o
}

func (l *link) relay(w *Worker, o order) {
	defer closeFiles(o.files)
	if len(o.files) != 1 {
		return
	}
	data, err := readBlob(o.files[0])
	if err != nil {
		l.log.Warn("state of another generation", "generation", o.Generation, "name", o.Name, "error", err)
		return
	}
	select {
	case w.relayed <- Relayed{o.Generation, o.Name, data}:
	default:
		l.log.Warn("state of another generation is not taken", "generation", o.Generation, "name", o.Name)
	}
}

// ask sends a question and waits for its answer, whose files are the caller's.
func (l *link) ask(ctx context.Context, m message, files ...int) (order, error) {
	answer := make(chan order, 1)
	l.mu.Lock()
	l.last++
	m.ID = l.last
	l.pending[m.ID] = answer
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		delete(l.pending, m.ID)
		l.mu.Unlock()
		select {
		case late := <-answer:
			closeFiles(late.files)
		default:
		}
	}
	if err := l.channel.send(m, files...); err != nil {
		forget()
		return order{}, fmt.Errorf("ask keeper: %w", err)
	}
	done := ctx.Done()
	for {
		select {
		case o := <-answer:
			return o, nil
		case <-l.gone:
			select {
			case o := <-answer:
				return o, nil
			default:
			}
			forget()
			return order{}, errors.New("ask keeper: it is gone")
		case <-done:
			if m.Kind != kindRestart {
				forget()
				return order{}, ctx.Err()
			}
			// The answer tells whether that came in time.
			done = nil
			if err := l.channel.send(message{Kind: kindCancel, ID: m.ID}); err != nil {
				forget()
				return order{}, ctx.Err()
			}
		}
	}
}

func (l *link) restart(ctx context.Context, content []byte, reason string) error {
	m := message{Kind: kindRestart, Reason: reason, Content: content != nil}
	var files []int
	if content != nil {
		fd, err := newBlob("content", content)
		if err != nil {
			return &Error{Text: err.Error(), Environment: true}
		}
		defer closeFiles([]int{fd})
		files = append(files, fd)
	}
	o, err := l.ask(ctx, m, files...)
	if err != nil {
		return &Error{Text: err.Error(), Environment: true}
	}
	if o.Error != "" {
		return &Error{Text: o.Error, Environment: o.Retryable}
	}
	return nil
}

func (l *link) table(ctx context.Context) (Table, error) {
	o, err := l.ask(ctx, message{Kind: kindStatus})
	if err != nil {
		return Table{}, err
	}
	defer closeFiles(o.files)
	if o.Error != "" {
		return Table{}, fmt.Errorf("ask keeper: %s", o.Error)
	}
	if len(o.files) != 1 {
		return Table{}, fmt.Errorf("ask keeper: %w: no table came", errMessage)
	}
	data, err := readBlob(o.files[0])
	if err != nil {
		return Table{}, fmt.Errorf("ask keeper: %w", err)
	}
	var t Table
	if json.Unmarshal(data, &t) != nil {
		return Table{}, fmt.Errorf("ask keeper: %w", errMessage)
	}
	return t, nil
}

// blob tells the keeper something large.
func (l *link) blob(m message, data []byte) {
	fd, err := newBlob(string(m.Kind), data)
	if err == nil {
		err = l.channel.send(m, fd)
		closeFiles([]int{fd})
	}
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, net.ErrClosed) {
		l.log.Warn("keeper cannot be told", "what", m.Kind, "error", err)
	}
}

func (l *link) listen(ctx context.Context, addrs []socket.Address, mode os.FileMode) ([]net.Listener, error) {
	m := message{Kind: kindListen}
	for _, a := range addrs {
		m.Addresses = append(m.Addresses, request{Address: a, Mode: uint32(mode)})
	}
	if len(addrs) > maxSockets {
		return nil, &Error{Text: fmt.Sprintf("listen on %d addresses: more than %d", len(addrs), maxSockets)}
	}
	o, err := l.ask(ctx, m)
	if err != nil {
		return nil, &Error{Text: err.Error(), Environment: true}
	}
	if o.Error != "" {
		return nil, &Error{Text: o.Error, Environment: o.Retryable}
	}
	return l.listeners(o)
}

// listeners makes the listeners of an order's sockets.
func (l *link) listeners(o order) ([]net.Listener, error) {
	if len(o.files) != len(o.Sockets) {
		closeFiles(o.files)
		return nil, &Error{
			Text:        fmt.Sprintf("%d of %d sockets did not arrive: there may be too few file descriptors", len(o.Sockets)-len(o.files), len(o.Sockets)),
			Environment: true,
		}
	}
	made := make([]net.Listener, 0, len(o.files))
	for i, fd := range o.files {
		ln, err := socket.Listener(fd, o.Sockets[i].Address)
		if err != nil {
			closeFiles(o.files[i+1:])
			for _, other := range made {
				err = errors.Join(err, other.Close())
			}
			return nil, &Error{Text: err.Error(), Environment: true}
		}
		l.held.Lock()
		l.open[o.Sockets[i].Key]++
		l.held.Unlock()
		made = append(made, &listener{Listener: ln, key: o.Sockets[i].Key, alias: o.Sockets[i].Alias, closed: l.closed})
	}
	return made, nil
}

// closed tells the keeper when the last listener on a socket is closed.
func (l *link) closed(key string) {
	l.held.Lock()
	defer l.held.Unlock()
	if l.open[key]--; l.open[key] > 0 {
		return
	}
	_ = l.channel.send(message{Kind: kindReleased, Keys: []string{key}}) // a keeper that is gone holds nothing
}
