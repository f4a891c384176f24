package rivals

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// serveEnv makes this program the child: see Serve.
const serveEnv = "RIVALS_SERVE"

// The servers that are measured run in a process of their own, so that their
// processor time is not that of the clients. It reads a command a line from
// standard input, answers each with one line on standard output, and ends with
// its input.
type command struct {
	Op string `json:"op"`
	// Idle is for opIdle.
	Idle time.Duration `json:"idle,omitempty"`
}

// The commands.
const (
	opAddresses = "addresses" // where the servers are
	opUsage     = "usage"     // processor time and allocations so far
	opReload    = "reload"    // reload reloadsPerSecond times a second from now on
	opQuiet     = "quiet"     // no longer
	opIdle      = "idle"      // make Idle the idle timeout of ours, and tell how long that took
)

type reply struct {
	Error     string            `json:"error,omitempty"`
	Addresses map[string]string `json:"addresses,omitempty"`
	Roots     []byte            `json:"roots,omitempty"` // PEM
	CPU       time.Duration     `json:"cpu,omitempty"`
	Mallocs   uint64            `json:"mallocs,omitempty"`
	Took      time.Duration     `json:"took,omitempty"`
	Reloads   int               `json:"reloads,omitempty"` // since opReload
}

// child is the other process. Its methods are for one goroutine.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
	reply // to opAddresses
}

// childTimeout is how long the child may take to end.
const childTimeout = 10 * time.Second

// startChild starts this program once more. It lives until close is called or
// ctx ends.
func startChild(ctx context.Context) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self) //nolint:gosec // it is this program
	cmd.Env = append(os.Environ(), serveEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = childTimeout
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the servers: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the servers: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the servers: %w", err)
	}
	c := &child{cmd: cmd, stdin: stdin, out: bufio.NewScanner(stdout)}
	if c.reply, err = c.call(command{Op: opAddresses}); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// call sends a command and waits for its answer, or the end of the child.
func (c *child) call(cmd command) (reply, error) {
	line, err := json.Marshal(cmd)
	if err != nil {
		return reply{}, fmt.Errorf("tell the servers to %s: %w", cmd.Op, err)
	}
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		return reply{}, fmt.Errorf("tell the servers to %s: %w", cmd.Op, err)
	}
	if !c.out.Scan() {
		return reply{}, fmt.Errorf("tell the servers to %s: they have ended: %w", cmd.Op, errors.Join(io.ErrUnexpectedEOF, c.out.Err()))
	}
	var r reply
	if err := json.Unmarshal(c.out.Bytes(), &r); err != nil {
		return reply{}, fmt.Errorf("tell the servers to %s: %w", cmd.Op, err)
	}
	if r.Error != "" {
		return reply{}, fmt.Errorf("tell the servers to %s: %s", cmd.Op, r.Error)
	}
	return r, nil
}

// close ends the child and waits for it.
func (c *child) close() error {
	return errors.Join(c.stdin.Close(), c.cmd.Wait())
}

// IsServer reports whether this process is to be the child: main calls Serve
// then, and nothing else.
func IsServer() bool { return os.Getenv(serveEnv) != "" || os.Getenv(generationEnv) != "" }

// Serve is the child. It returns when in ends. One that is restarted has nothing
// to do with in and out: see [generation].
func Serve(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	if path := os.Getenv(generationEnv); path != "" {
		return serveGeneration(ctx, path)
	}
	s, err := openServers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	commands := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for commands.Scan() {
		var c command
		r, err := reply{}, json.Unmarshal(commands.Bytes(), &c)
		if err == nil {
			r, err = s.do(ctx, c)
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := answers.Encode(r); err != nil {
			return fmt.Errorf("answer %s: %w", c.Op, err)
		}
	}
	return commands.Err()
}

// reloader reloads at a rate.
type reloader struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	count   int
	err     error
}

// reloadsPerSecond is the rate of opReload.
const reloadsPerSecond = 100

// start calls reload at the rate until quiet is called.
func (r *reloader) start(ctx context.Context, reload func(context.Context) error) {
	ctx, r.stop = context.WithCancel(ctx)
	r.count, r.err = 0, nil
	r.running.Go(func() {
		ticker := time.NewTicker(time.Second / reloadsPerSecond)
		defer ticker.Stop()
		for r.err == nil {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if r.err = reload(ctx); r.err == nil {
					r.count++
				}
			}
		}
	})
}

// quiet stops it, and returns how often it has reloaded.
func (r *reloader) quiet() (int, error) {
	if r.stop == nil {
		return 0, nil
	}
	r.stop()
	r.running.Wait()
	r.stop = nil
	if r.err != nil && !errors.Is(r.err, context.Canceled) {
		return r.count, r.err
	}
	return r.count, nil
}
