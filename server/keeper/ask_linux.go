package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hotsvc/svc/server/socket"
)

const (
	// The bounds of a connection.
	askTime     = 5 * time.Second
	restartTime = 5 * time.Minute
	maxQuestion = 64
	maxAskers   = 32
	// acceptPause is between two tries where there are too few descriptors.
	acceptPause = 100 * time.Millisecond
)

// question is one that came over the socket.
type question struct {
	restart bool
	table   chan Table // has room for the answer
	result  chan *Error
}

// answer answers it.
func (k *keeper) answer(ctx context.Context, q *question) {
	if !q.restart {
		q.table <- k.table()
		return
	}
	k.request(ctx, &attempt{
		reason: "svc restart", at: time.Now(), content: -1,
		waiters: []func(*Error){func(err *Error) { q.result <- err }},
	})
}

// listenAsk opens the socket. The caller holds the folder's lock, so a socket
// that is there is one of a keeper that was killed: unclean.
func listenAsk(ctx context.Context, dir string) (l net.Listener, unclean bool, err error) {
	path := filepath.Join(dir, Socket)
	if err := os.Remove(path); err == nil {
		unclean = true
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("remove old keeper socket: %w", err)
	}
	addresses, err := socket.Resolve(ctx, []string{"unix:" + path})
	if err == nil {
		l, err = socket.Listen(ctx, addresses[0], 0o600)
	}
	if err != nil {
		return nil, unclean, fmt.Errorf("listen on keeper socket: %w", err)
	}
	return l, unclean, nil
}

// serveAsk answers until ctx ends, and waits for those it is answering.
func (k *keeper) serveAsk(ctx context.Context, l net.Listener) {
	var asking sync.WaitGroup
	defer asking.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // which ends Accept
	defer stop()
	room := make(chan struct{}, maxAskers)
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// There are too few descriptors for now.
			select {
			case <-time.After(acceptPause):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			_ = c.Close()
			return
		}
		asking.Go(func() {
			defer func() { <-room }()
			k.serveOne(ctx, c)
		})
	}
}

func (k *keeper) serveOne(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	defer func() { _ = c.Close() }()
	q := &question{table: make(chan Table, 1)}
	if c.SetDeadline(time.Now().Add(askTime)) != nil || !k.post(event{ask: q}) {
		return
	}
	select {
	case table := <-q.table:
		if writeLine(c, table) != nil {
			return
		}
	case <-k.ended:
		return
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxQuestion)).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != askRestart {
		return
	}
	q = &question{restart: true, result: make(chan *Error, 1)}
	if c.SetDeadline(time.Now().Add(restartTime)) != nil || !k.post(event{ask: q}) {
		return
	}
	answer := Answer{Error: "the keeper has ended"}
	select {
	case err := <-q.result:
		answer.Error = ""
		if err != nil {
			answer.Error = err.Text
		}
	case <-k.ended:
	}
	_ = c.SetDeadline(time.Now().Add(askTime)) // a write to a dead end fails anyway
	if err := writeLine(c, answer); err != nil {
		k.log.LogAttrs(ctx, slog.LevelDebug, "nobody waits for the restart any more", slog.Any("error", err))
	}
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
