package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"
)

// Options are how a service is kept. The zero value will do.
type Options struct {
	// StateDir is the folder for [Socket]. The caller makes sure that no other
	// keeper uses it. "" has no socket: then nobody but the workers and signals
	// can ask for a restart.
	StateDir string
	// Version of the program, for people.
	Version string
	// Direct does the work in this process, with no keeper: for debuggers, and
	// for what is not Linux, where it is always so. There are no restarts then.
	Direct bool
	// StartTimeout bounds the time from the start of a worker until it is
	// prepared. Default 60 s.
	StartTimeout time.Duration
	// Logger gets a line for each step. nil: nothing is logged.
	Logger *slog.Logger
	// Stderr gets the goroutines on SIGQUIT. Default os.Stderr.
	Stderr io.Writer
}

func (o Options) withDefaults() Options {
	o.StartTimeout = cmp.Or(o.StartTimeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	return o
}

// Run runs a service under a keeper. In the process that was started by hand,
// or by a service manager, it is the keeper: it never calls work, but starts this
// same program again, with the same arguments and environment, as a worker, and
// returns when the last worker has ended. In a worker it calls work once, whose
// ctx ends when the worker is to stop, and returns what work does.
//
// So whatever comes before Run happens in both, and must neither listen nor
// write. Run takes over the signals TERM, INT, HUP, USR2 and QUIT.
//
// The error is that of a first start that failed, or of a drain that cut
// something off. What a worker returns is told to the keeper, and in the worker
// Run returns nil then.
func Run(ctx context.Context, o Options, work func(context.Context, *Worker) error) error {
	o = o.withDefaults()
	// Where nobody reads stdout or stderr any more, as after the end of a keeper
	// whose service manager read them, a log line must not end the process, which
	// is the default (os/signal). Nor is it ignored, which what it starts would
	// inherit. The channel is never read.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	defer signal.Stop(unread)
	switch {
	case IsWorker():
		return runWorker(ctx, o, work)
	case o.Direct || !supported:
		return runDirect(ctx, o, work)
	}
	return runKeeper(ctx, o)
}

// IsWorker reports whether this process is a worker, until Run is called.
func IsWorker() bool { return supported && os.Getenv(workerMark) != "" }

// workerMark is the variable that tells a worker that it is one.
const workerMark = "SVC_WORKER"

var errNoKeeper = errors.New("there is no keeper: a restart is a stop and a start")

// dump writes all goroutines.
func dump(w io.Writer) {
	_, _ = fmt.Fprintf(w, "goroutines of process %d:\n", os.Getpid())
	_ = pprof.Lookup("goroutine").WriteTo(w, 2) // nobody can be told that it failed
}
