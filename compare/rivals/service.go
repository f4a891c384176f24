package rivals

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hotsvc/svc/internal/load"
	"github.com/hotsvc/svc/internal/testcert"
)

// restartable is a service that can be restarted, as the measurement sees it.
type restartable interface {
	// start starts it and waits until it serves.
	start(ctx context.Context) error
	// trigger asks for a restart, and does not wait for it.
	trigger() error
	// pids are the processes that serve or have served, and still live, the oldest
	// first.
	pids() []int
	// stop ends all processes and waits for their end, with ctx over too, calls
	// then, where it is not nil, and removes what they have written.
	stop(ctx context.Context, then func() error) error
}

var _ restartable = (*service)(nil)

// service is a system that runs, in any number of processes. All of them connect
// to it, so that it knows when each one has ended, and they know when it has.
type service struct {
	system system
	target load.Target // the address is there from start on
	record string

	dir     string
	control *net.UnixListener
	cmd     *exec.Cmd
	first   chan struct{} // closed when the first process has been waited for
	failed  error         // what that returned; from first on
	running sync.WaitGroup
	changed chan struct{} // holds a token after each change of what follows

	mu        sync.Mutex
	processes []*process // connected, the oldest first
	served    map[int]bool
	refused   int    // restarts
	refusal   string // why the last one was
}

type process struct {
	conn    *net.UnixConn
	pid     int
	serving bool
	alone   bool
}

// newService prepares a service and its files.
func newService(ctx context.Context, s system, p Protocol) (_ *service, err error) {
	if !slices.Contains(protocols(), p) {
		return nil, fmt.Errorf("prepare a service: the protocol is not one of %q", protocols())
	}
	dir, err := os.MkdirTemp("", "restart-")
	if err != nil {
		return nil, fmt.Errorf("prepare a service: %w", err)
	}
	v := &service{
		system: s, dir: dir, record: filepath.Join(dir, "record"),
		first: make(chan struct{}), changed: make(chan struct{}, 1), served: map[int]bool{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prepare a service: %w", err), v.remove())
		}
	}()
	g := generation{
		System: s.name, Network: "tcp", Address: "127.0.0.1:0", Inherited: s.name == systemBare,
		Control: filepath.Join(dir, "control"), Record: v.record, StateDir: filepath.Join(dir, "state"),
	}
	if p == OverUnix {
		g.Network, g.Address = "unix", filepath.Join(dir, "serve")
	}
	v.target = load.Target{Network: g.Network, Address: g.Address, HTTP2: p == OverHTTP2}
	if p == OverTLS || p == OverHTTP2 {
		certificate := testcert.SelfSigned("measured", testcert.Hosts("127.0.0.1"))
		g.Certificate, g.Key = testcert.PEM(certificate)
		roots := x509.NewCertPool()
		roots.AddCert(certificate.Leaf)
		v.target.TLS = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	}
	var lc net.ListenConfig
	control, err := lc.Listen(ctx, "unix", g.Control)
	if err != nil {
		return nil, err
	}
	v.control = control.(*net.UnixListener)
	record, err := load.OpenRecord(v.record)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(record.Close(), os.Mkdir(g.StateDir, 0o700)); err != nil {
		return nil, err
	}
	data, err := json.Marshal(&g)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "generation"), data, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	v.cmd = exec.CommandContext(ctx, self) //nolint:gosec // it is this program
	v.cmd.Env = append(
		os.Environ(), generationEnv+"="+filepath.Join(dir, "generation"),
		// The race detector has each process wait a second before it ends.
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"),
	)
	v.cmd.Stderr = os.Stderr
	v.running.Go(v.acceptAll)
	return v, nil
}

// remove removes what newService has made, when nothing runs any more.
func (v *service) remove() error {
	var err error
	if v.control != nil {
		err = v.control.Close()
	}
	v.running.Wait()
	return errors.Join(err, os.RemoveAll(v.dir))
}

// acceptAll lets processes connect until the listener is closed.
func (v *service) acceptAll() {
	for {
		conn, err := v.control.AcceptUnix()
		if err != nil {
			return
		}
		v.mu.Lock()
		p := &process{conn: conn}
		v.processes = append(v.processes, p)
		v.mu.Unlock()
		v.running.Go(func() { v.follow(p) })
	}
}

// follow reads the reports of a process until it has ended.
func (v *service) follow(p *process) {
	lines := bufio.NewScanner(p.conn)
	for lines.Scan() {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue // half a line of one that was killed
		}
		v.mu.Lock()
		p.pid = r.PID
		switch r.Stage {
		case stageServing:
			p.serving = true
			v.served[r.PID] = true
			v.target.Address = r.Address
		case stageAlone:
			p.alone = true
		case stageRefused:
			v.refused++
			v.refusal = r.Reason
		case stageStarted:
		}
		v.mu.Unlock()
		v.tell()
	}
	_ = p.conn.Close() // the process is gone
	v.mu.Lock()
	v.processes = slices.DeleteFunc(v.processes, func(q *process) bool { return q == p })
	v.mu.Unlock()
	v.tell()
}

func (v *service) tell() {
	select {
	case v.changed <- struct{}{}:
	default: // a token is there, and who takes it sees this change
	}
}

// unseen is how long a process may be connected before it is seen to be, while
// the clients have the processors: the one before it may have ended by then.
const unseen = 3 * time.Second

// await waits until enough, which is called under the lock, for a time. It gives
// up before when there are no processes any more.
func (v *service) await(ctx context.Context, limit time.Duration, enough func() bool) error {
	timer, lost := time.NewTimer(limit), time.NewTimer(limit)
	defer timer.Stop()
	defer lost.Stop()
	gone := false
	for {
		v.mu.Lock()
		ok, none := enough(), len(v.processes) == 0
		v.mu.Unlock()
		if ok {
			return nil
		}
		if none = none && v.waited(); none && !gone {
			lost.Reset(unseen)
		}
		gone = none
		select {
		case <-v.changed:
		case <-lost.C:
			if gone {
				return errors.Join(errors.New("the service has ended"), v.failed)
			}
		case <-timer.C:
			return errors.New("that takes too long")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waited reports whether the first process has been waited for.
func (v *service) waited() bool {
	select {
	case <-v.first:
		return true
	default:
		return false
	}
}

// startLimit is how long a start or a restart may take.
const startLimit = 20 * time.Second

func (v *service) start(ctx context.Context) error {
	if err := v.launch(); err != nil {
		return err
	}
	if err := v.await(ctx, startLimit, func() bool { return len(v.served) > 0 }); err != nil {
		return fmt.Errorf("start %s: %w", v.system.name, err)
	}
	return nil
}

// inherit opens the listener that the first process is to have from its start.
func (v *service) inherit(ctx context.Context) (err error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, v.target.Network, v.target.Address)
	if err != nil {
		return fmt.Errorf("start %s: %w", v.system.name, err)
	}
	v.target.Address = ln.Addr().String()
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	defer func() { err = errors.Join(err, ln.Close()) }()
	file, err := ln.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return fmt.Errorf("start %s: %w", v.system.name, err)
	}
	v.cmd.ExtraFiles = []*os.File{file}
	return nil
}

// launch starts the first process.
func (v *service) launch() error {
	err := v.cmd.Start()
	for _, file := range v.cmd.ExtraFiles {
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", v.system.name, err)
	}
	v.running.Go(func() {
		v.failed = v.cmd.Wait()
		close(v.first)
		v.tell()
	})
	return nil
}

func (v *service) pids() []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	var pids []int
	for _, p := range v.processes {
		if p.serving {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

func (v *service) trigger() error { return v.send(v.system.signal) }

// send sends a signal to the process that takes them.
func (v *service) send(sig os.Signal) error {
	to := v.cmd.Process
	if !v.system.stable {
		pids := v.pids()
		if len(pids) == 0 {
			return fmt.Errorf("signal %s: no process serves", v.system.name)
		}
		var err error
		if to, err = os.FindProcess(pids[len(pids)-1]); err != nil {
			return fmt.Errorf("signal %s: %w", v.system.name, err)
		}
	}
	if err := to.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", v.system.name, err)
	}
	return nil
}

// stop has the service drain and end. What does not end in time is killed, and
// that is an error.
func (v *service) stop(ctx context.Context, then func() error) error {
	if v.cmd.Process == nil {
		return v.remove()
	}
	ctx = context.WithoutCancel(ctx) // each wait here has a limit of its own
	ended := func() bool { return len(v.processes) == 0 && v.waited() }
	var errs []error
	err := v.await(ctx, 0, ended)
	if err != nil {
		if err = v.send(syscall.SIGTERM); err == nil {
			err = v.await(ctx, drainLimit, ended)
		}
	}
	if err != nil && v.await(ctx, 0, ended) != nil {
		errs = append(errs, fmt.Errorf("stop %s: %w", v.system.name, err))
		v.abandon()
		if v.await(ctx, childTimeout, ended) != nil {
			errs = append(errs, v.kill())
			<-v.first
		}
	}
	errs = append(errs, v.failed)
	if then != nil {
		errs = append(errs, then())
	}
	return errors.Join(append(errs, v.remove())...)
}

// abandon has all processes end at once.
func (v *service) abandon() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.processes {
		_ = p.conn.CloseWrite() // it fails where the process has ended
	}
}

// kill kills all processes.
func (v *service) kill() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	errs := []error{v.cmd.Process.Kill()}
	for _, p := range v.processes {
		if p.pid == 0 || p.pid == v.cmd.Process.Pid {
			continue
		}
		to, err := os.FindProcess(p.pid)
		if err == nil {
			err = to.Kill()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
