package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

// Socket is the name of the keeper's own socket in the state folder.
//
// Who connects gets the [Table], one line of JSON, at once. Then it may send the
// line "restart", and gets one more line, of an [Answer], when the restart is
// committed or has failed. Nobody but the owner of the folder may connect
// (0600).
const Socket = "keeper.sock"

const (
	maxAnswer  = 1 << 20
	askRestart = "restart"
)

// Answer is the result of a restart.
type Answer struct {
	Error string `json:"error,omitempty"`
}

// Ask returns what the keeper with this state folder knows. An error that is
// [io/fs.ErrNotExist] or ECONNREFUSED says that none runs there.
func Ask(ctx context.Context, dir string) (Table, error) {
	var table Table
	c, lines, err := dial(ctx, dir)
	if err != nil {
		return table, err
	}
	defer c.close()
	return table, lines.read(&table)
}

// AskRestart asks the keeper with this state folder for a restart: the program
// as it is on disk now, with the content in force. It returns when the new
// generation accepts, or why there is none; a restart that is under way is
// waited for first.
func AskRestart(ctx context.Context, dir string) error {
	c, lines, err := dial(ctx, dir)
	if err != nil {
		return err
	}
	defer c.close()
	var table Table
	if err := lines.read(&table); err != nil {
		return err
	}
	if _, err := io.WriteString(c, askRestart+"\n"); err != nil {
		return fmt.Errorf("ask keeper for a restart: %w", err)
	}
	var answer Answer
	if err := lines.read(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// asking is a connection that ends with its context.
type asking struct {
	net.Conn
	stop func() bool
}

func (c asking) close() {
	c.stop()
	_ = c.Close() // everything was read
}

// lines are the answers, a line each.
type lines struct{ *bufio.Reader }

func dial(ctx context.Context, dir string) (asking, lines, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(dir, Socket))
	if err != nil {
		return asking{}, lines{}, fmt.Errorf("ask keeper: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	return asking{c, stop}, lines{bufio.NewReader(io.LimitReader(c, 2*maxAnswer))}, nil
}

func (l lines) read(v any) error {
	line, err := l.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if err != nil {
		return fmt.Errorf("read keeper's answer: %w", err)
	}
	return nil
}
