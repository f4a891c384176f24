package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// deaf is how a socket was made to let nobody in, and so how to undo it.
type deaf struct {
	moved    bool // to the interface that is not there
	filtered bool
	from     int // the interface it was on; 0: all
}

// Refuse keeps new connections from the socket, and from all its duplicates,
// until [Socket.Admit]. What is queued can still be accepted, and a handshake
// under way comes to its end. New connections go to the socket that covers this
// one, at once; where there is none, the kernel refuses them. Asking again does
// nothing, and neither does asking a unix socket: it has no handshake, and what is
// queued when the last duplicate is closed is refused.
//
// It takes two ways at once, each of which does by itself, because neither is open
// to everybody. The socket is bound to an interface that does not exist
// (SO_BINDTOIFINDEX): for everybody from Linux 5.7 on, unless it is bound to one
// already. And a filter drops each packet that asks for a new connection
// (SO_ATTACH_FILTER): newer kernels ask for CAP_NET_ADMIN; with it alone a client
// waits a second until it sends its SYN again. Only where both fail there is an
// error, and nothing has changed.
func (s *Socket) Refuse() error {
	const operation = "refuse connections"
	if err := s.open(operation); err != nil || s.asked.Network == networkUnix || s.deaf != nil {
		return err
	}
	var d deaf
	moveErr := d.move(s.fd)
	filterErr := d.filter(s.fd)
	if moveErr != nil && filterErr != nil {
		return failure(operation, s.bound, errors.Join(moveErr, filterErr))
	}
	s.deaf = &d
	return nil
}

// Admit takes back [Socket.Refuse]. It does nothing where nothing is refused.
//
// Linux asks for CAP_NET_RAW to take it back. Without it, another socket is opened
// in this one's place, beside it: [Socket.FD] is another one then, and who has a
// duplicate and is to get new connections needs a new one. The old ones can be
// accepted on until their queue is empty.
func (s *Socket) Admit() error {
	const operation = "admit connections"
	if err := s.open(operation); err != nil || s.deaf == nil {
		return err
	}
	err := s.deaf.undo(s.fd)
	if errors.Is(err, fs.ErrPermission) && s.deaf.moved {
		// One on another interface is not in the other's way.
		err = s.replace()
	}
	if err != nil {
		return failure(operation, s.bound, err)
	}
	s.deaf = nil
	return nil
}

// replace opens the address again and closes the descriptor that it had.
func (s *Socket) replace() error {
	if err := setOption(s.fd, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	// The address is numeric: nothing blocks.
	next, err := OpenBeside(context.Background(), s.bound, 0)
	if err != nil {
		return err
	}
	old := s.fd
	s.fd = next.fd
	return os.NewSyscallError("close", unix.Close(old))
}

// move binds the socket to an interface that is not there. A new connection is
// looked up by the interface it comes in on; one that has begun is not.
func (d *deaf) move(fd int) error {
	const nowhere = math.MaxInt32
	from, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if err := setOption(fd, unix.SO_BINDTOIFINDEX, nowhere); err != nil {
		return fmt.Errorf("bind it to no interface: %w", err)
	}
	d.moved, d.from = true, from
	return nil
}

// filter attaches a program of classic BPF that drops the first packet of a
// handshake: SYN set, ACK not set (RFC 9293 section 3.5). On a TCP socket, of IPv4
// and of IPv6, the packet begins with the header of TCP. A connection inherits it
// from its listener, where it drops nothing that belongs to the connection.
func (d *deaf) filter(fd int) error {
	const (
		flags = 13 // the byte of the header they are in
		syn   = 0x02
		ack   = 0x10
	)
	program := [...]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err != nil {
		return fmt.Errorf("filter what comes: %w", os.NewSyscallError("setsockopt", err))
	}
	d.filtered = true
	return nil
}

// undo takes back what was done, or as much of it as this user may.
func (d *deaf) undo(fd int) error {
	if d.moved {
		if err := setOption(fd, unix.SO_BINDTOIFINDEX, d.from); err != nil {
			return err
		}
		d.moved = false
	}
	if d.filtered {
		if err := setOption(fd, unix.SO_DETACH_FILTER, 0); err != nil {
			return err
		}
		d.filtered = false
	}
	return nil
}
