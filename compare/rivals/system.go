package rivals

import (
	"context"
	"os"
	"syscall"
)

// system is one way to restart a server.
type system struct {
	name   string
	module string // of which the version is told; "" is ours
	// serve is each process of it, from its start to its end. It reports when it
	// serves, and where. When ctx ends it ends at once; on SIGTERM it drains.
	serve func(context.Context, *generation) error
	// signal asks for a restart: the first process where stable, else the newest
	// one that serves.
	signal os.Signal
	stable bool
	// alone: there is no restart before the process before has ended, and each
	// process reports when it has.
	alone bool
}

// The systems besides ours.
const (
	systemTableflip = "tableflip"
	systemLameDuck  = "tableflip-lameduck"
	systemBare      = "bare" // a start without restarts, for the time that it takes
)

const tableflipModule = "github.com/cloudflare/tableflip"

// systems are those that are restarted, ours first.
func systems() []system {
	return []system{
		{
			name:  serverOurs,
			serve: serveKept, signal: restartSignal(), stable: true,
		},
		{
			name: systemTableflip, module: tableflipModule,
			serve: serveTableflip(0), signal: syscall.SIGHUP, alone: true,
		},
		{
			name: systemLameDuck, module: tableflipModule,
			serve: serveTableflip(lameDuck), signal: syscall.SIGHUP, alone: true,
		},
	}
}

func systemOf(name string) (system, bool) {
	for _, s := range append(systems(), system{name: systemBare, serve: serveBare}) {
		if s.name == name {
			return s, true
		}
	}
	return system{}, false
}

// title is the name with the version, where the build tells it.
func (s system) title() string {
	return (&library{name: s.name, module: s.module}).title()
}
