package keeper

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/socket"
)

const supported = true

// gcPercent keeps the keeper's own garbage small: it does nothing most of the
// time.
const gcPercent = 25

// runKeeper is the process that everybody sees as the service.
func runKeeper(ctx context.Context, o Options) (err error) {
	debug.SetGCPercent(gcPercent)
	if err := keepToUs(); err != nil {
		return err
	}
	p, err := thisProgram()
	if err != nil {
		return err
	}
	k := &keeper{
		options: o, log: o.Logger, program: p, manager: newManager(o.Logger),
		events: make(chan event), ended: make(chan struct{}), since: time.Now(),
		content: -1, states: map[string]int{}, reloads: map[int64]time.Time{},
	}
	if k.manager.watchdog > 0 {
		k.nextAlive = k.since
	}
	var asked net.Listener
	if o.StateDir != "" {
		if asked, k.unclean, err = listenAsk(ctx, o.StateDir); err != nil {
			return err
		}
	}
	if err := k.inherit(); err != nil {
		if asked != nil {
			err = errors.Join(err, asked.Close())
		}
		return err
	}
	signals, children, unsubscribe := notifications()
	defer unsubscribe()
	asking, stop := context.WithCancel(context.WithoutCancel(ctx))
	if asked != nil {
		k.workers.Go(func() { k.serveAsk(asking, asked) })
	}
	err = k.run(ctx, signals, children)
	stop()
	k.workers.Wait()
	return err
}

// keepToUs closes on exec whatever else this process was started with: a worker
// would inherit it, and what that starts too.
func keepToUs() error {
	const first = 3
	err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	// Before Linux 5.11.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("look at open files: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// inherit takes over the sockets that a service manager has opened
// (sd_listen_fds(3)). They are used where the configuration names their
// addresses.
func (k *keeper) inherit() error {
	for _, f := range activation.Files(true) {
		fd := duplicate(int(f.Fd()))
		if err := f.Close(); err != nil {
			return fmt.Errorf("close inherited socket %s: %w", f.Name(), err)
		}
		s, err := socket.Inherit(fd)
		if err != nil {
			return fmt.Errorf("take over inherited socket %s: %w", f.Name(), err)
		}
		l := k.sockets.add(s, 0)
		l.inherited = true
		l.wanted[nobody] = claim{}
	}
	return nil
}
