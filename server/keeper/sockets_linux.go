package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hotsvc/svc/server/socket"
)

// listening is one listening socket of the keeper.
type listening struct {
	*socket.Socket
	key string
	// file is that of a unix socket that was opened here, mode what it was last
	// set to.
	file os.FileInfo
	mode os.FileMode
	// inherited says that a service manager has opened it, and has it too: it
	// stays as it is, whatever becomes of us.
	inherited bool
	// wanted are the generations whose configuration names it; the keeper
	// itself, as nobody, while none lives.
	wanted map[int]claim
	// holders are the generations that have a duplicate.
	holders map[int]bool
	// retire is when nobody is let in any more; zero: it is in use.
	retire time.Time
	// release is when the holders are told to close theirs; zero: somebody is
	// let in.
	release  time.Time
	released bool
}

// claim is how a generation wants a socket.
type claim struct {
	alias bool        // only because a wider address is listened on
	mode  os.FileMode // of a unix socket
}

// nobody is the keeper's own claim on a socket.
const nobody = 0

// lull is how long a handshake that has begun gets before a socket that lets
// nobody in any more is emptied and closed.
const lull = 50 * time.Millisecond

func (l *listening) wantedBy(g *generation) bool {
	if g == nil {
		return false
	}
	_, wanted := l.wanted[g.number]
	return wanted
}

// use says that it is not given up, or no more.
func (l *listening) use() { l.retire, l.release, l.released = time.Time{}, time.Time{}, false }

// admit takes back that it lets nobody in. That it was given up stays, so that it
// is again when whoever asked for it does not come to accept.
func (l *listening) admit() error {
	if l.release.IsZero() {
		return nil
	}
	if err := l.Admit(); err != nil {
		return fmt.Errorf("listen again on %s: %w", l.key, err)
	}
	l.release, l.released = time.Time{}, false
	return nil
}

// lost says that the path of a unix socket is no longer its own: it was given up,
// or somebody has removed or replaced it.
func (l *listening) lost() bool {
	if l.file == nil {
		return false
	}
	info, err := os.Lstat(l.Address().Target)
	return !l.release.IsZero() || err != nil || !os.SameFile(info, l.file)
}

// chmod gives the file of a unix socket another mode.
func (l *listening) chmod(mode os.FileMode) error {
	if l.file == nil || l.mode == mode || l.lost() {
		return nil
	}
	if err := os.Chmod(l.Address().Target, mode); err != nil {
		return fmt.Errorf("set who may use the socket: %w", err)
	}
	l.mode = mode
	return nil
}

// sockets are all listening sockets of the service. They are few, so a list
// does. The state machine's goroutine alone has it.
type sockets struct{ list []*listening }

// assign returns the sockets that addresses ask for, each of them once; nil where
// there is none. A port that is named goes before a port 0, which may have got
// it.
func (s *sockets) assign(wanted []request) []*listening {
	found := make([]*listening, len(wanted))
	for _, anyPort := range []bool{false, true} {
		for i, r := range wanted {
			if (r.Address.Nth > 0) != anyPort {
				continue
			}
			at := slices.IndexFunc(s.list, func(l *listening) bool {
				return l.Is(r.Address) && !slices.Contains(found, l) && !l.lost()
			})
			if at >= 0 {
				found[i] = s.list[at]
			}
		}
	}
	return found
}

// covered are the sockets whose connections a wider address would take too, if
// they were not there.
func (s *sockets) covered(a socket.Address) []*listening {
	var found []*listening
	for _, l := range s.list {
		if a != l.Address() && a.Covers(l.Bound()) && l.release.IsZero() {
			found = append(found, l)
		}
	}
	return found
}

// overlapping are those that a can be bound beside only when both say so.
func (s *sockets) overlapping(a socket.Address) []*listening {
	var found []*listening
	for _, l := range s.list {
		if b := l.Bound(); a != b && (a.Covers(b) || b.Covers(a)) {
			found = append(found, l)
		}
	}
	return found
}

func (s *sockets) add(opened *socket.Socket, mode os.FileMode) *listening {
	l := &listening{Socket: opened, mode: mode, wanted: map[int]claim{}, holders: map[int]bool{}}
	l.key = l.Bound().String() // that of each listener on it
	s.list = append(s.list, l)
	return l
}

// drop ends a generation's claims.
func (s *sockets) drop(generation int) {
	for _, l := range s.list {
		delete(l.wanted, generation)
		delete(l.holders, generation)
	}
}

// sweep closes what nobody wants or holds.
func (s *sockets) sweep() error {
	var errs []error
	s.list = slices.DeleteFunc(s.list, func(l *listening) bool {
		if len(l.wanted) > 0 || len(l.holders) > 0 {
			return false
		}
		errs = append(errs, l.end())
		return true
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close listening socket: %w", err)
	}
	return nil
}

// end closes a socket and removes its path.
func (l *listening) end() error {
	if l.inherited {
		return l.Close()
	}
	return errors.Join(l.Unlink(), l.Close())
}

// keys are the addresses, for people, in the order they were opened.
func (s *sockets) keys(of func(*listening) bool) []string {
	found := []string{}
	for _, l := range s.list {
		if of(l) {
			found = append(found, l.key)
		}
	}
	return found
}

// opening is what must be opened for a generation.
type opening struct {
	request request
	beside  bool
}

// opened is the result for one of them.
type opened struct {
	socket *socket.Socket
	mode   os.FileMode
	file   os.FileInfo // of a unix socket
	err    error
}

// endOpened closes what nobody is to have.
func endOpened(opened []opened) {
	for _, o := range opened {
		if o.socket != nil {
			_ = o.socket.Unlink()
			_ = o.socket.Close() // it has accepted nothing
		}
	}
}

// open opens all or none. patience is how long a taken address is tried again.
func open(ctx context.Context, wanted []opening, patience time.Duration) []opened {
	results := make([]opened, 0, len(wanted))
	for _, o := range wanted {
		s, err := openOne(ctx, o, patience)
		if err != nil {
			endOpened(results)
			return []opened{{err: err}}
		}
		r := opened{socket: s, mode: os.FileMode(o.request.Mode)}
		if a := s.Bound(); a.Network == "unix" && !strings.HasPrefix(a.Target, "@") {
			if r.file, err = os.Lstat(a.Target); err != nil {
				endOpened(append(results, r))
				return []opened{{err: fmt.Errorf("look at the file of the socket: %w", err)}}
			}
		}
		results = append(results, r)
	}
	return results
}

func openOne(ctx context.Context, o opening, patience time.Duration) (*socket.Socket, error) {
	end := time.Now().Add(patience)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		<-again.C
		openSocket := socket.Open
		if o.beside {
			openSocket = socket.OpenBeside
		}
		s, err := openSocket(ctx, o.request.Address, os.FileMode(o.request.Mode))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || !time.Now().Before(end) || ctx.Err() != nil {
			return s, err
		}
		again.Reset(lull)
	}
}
