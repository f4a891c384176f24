//go:build unix

package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/liveconn"
)

// writeBatch sends a message with the descriptors of the connections. They stay
// open here. It blocks until the write deadline of the stream.
func writeBatch(stream *net.UnixConn, message []byte, conns []*liveconn.Conn) error {
	files := make([]int, len(conns))
	for i, c := range conns {
		// Nobody else has the connection, so nobody closes it before it is sent.
		// File would make it blocking, for the other process too.
		raw, err := c.NetConn().(syscall.Conn).SyscallConn()
		if err != nil {
			return fmt.Errorf("get descriptor of connection: %w", err)
		}
		if err := raw.Control(func(fd uintptr) { files[i] = int(fd) }); err != nil {
			return fmt.Errorf("get descriptor of connection: %w", err)
		}
	}
	n, _, err := stream.WriteMsgUnix(message, unix.UnixRights(files...), nil)
	runtime.KeepAlive(conns)
	if err != nil {
		return fmt.Errorf("send connections: %w", err)
	}
	if n < len(message) {
		if _, err := stream.Write(message[n:]); err != nil {
			return fmt.Errorf("send connections: %w", err)
		}
	}
	return nil
}

// batchReader reads messages.
type batchReader struct {
	stream *net.UnixConn
	data   []byte
	rights []byte
}

func newBatchReader(stream *net.UnixConn) *batchReader {
	return &batchReader{
		stream: stream,
		data:   make([]byte, maxBatchBytes),
		// One more would be a message that is not of this protocol.
		rights: make([]byte, unix.CmsgSpace(4*maxBatch)),
	}
}

// next waits for a message and returns it with its connections, which are the
// caller's. io.EOF is the end of the stream. Where something is wrong, everything
// that came with it is closed.
func (r *batchReader) next() (batch, []net.Conn, error) {
	n, rn, flags, _, err := r.stream.ReadMsgUnix(r.data, r.rights)
	files, filesErr := parseFiles(r.rights[:max(rn, 0)])
	b, err := r.rest(n, flags, len(files), errors.Join(err, filesErr))
	if err != nil {
		for _, fd := range files {
			_ = unix.Close(fd)
		}
		return b, nil, err
	}
	conns, err := fileConns(files)
	return b, conns, err
}

// rest reads what is missing of a message of which n bytes are there.
func (r *batchReader) rest(n, flags, files int, err error) (batch, error) {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		// The other end was closed, maybe with something unread.
		return batch{}, io.EOF
	case err != nil:
		return batch{}, fmt.Errorf("receive connections: %w", err)
	case n == 0 && files == 0:
		return batch{}, io.EOF
	case flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0:
		return batch{}, errors.New("receive connections: some did not fit, or this process may not have more files open")
	}
	// The sender waits for an answer, so nothing of another message is there.
	length, err := batchLength(r.data[:n])
	if err == nil && length > n {
		if _, err = io.ReadFull(r.stream, r.data[n:length]); errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		return batch{}, fmt.Errorf("receive connections: %w", err)
	}
	return decodeBatch(r.data[:length], files)
}

func parseFiles(rights []byte) ([]int, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, os.NewSyscallError("parse control message", err)
	}
	var files []int
	for i := range messages {
		if messages[i].Header.Level != unix.SOL_SOCKET || messages[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, os.NewSyscallError("parse control message", err)
		}
		files = append(files, fds...)
	}
	return files, nil
}

// fileConns makes connections of descriptors, all or none, and takes the
// descriptors over.
func fileConns(files []int) ([]net.Conn, error) {
	conns := make([]net.Conn, 0, len(files))
	var failed error
	for _, fd := range files {
		if failed != nil {
			_ = unix.Close(fd)
			continue
		}
		nc, err := fileConn(fd)
		if err != nil {
			failed = err
			continue
		}
		conns = append(conns, nc)
	}
	if failed != nil {
		for _, nc := range conns {
			_ = nc.Close()
		}
		return nil, fmt.Errorf("use received connection: %w", failed)
	}
	return conns, nil
}

// fileConn makes a connection of a descriptor, which it takes over. The keep-alive
// settings become those that net gives a connection it has accepted; they were
// the same before.
func fileConn(fd int) (net.Conn, error) {
	// The descriptor is not blocking, and NewFile, unlike File, leaves it so.
	f := os.NewFile(uintptr(fd), "connection")
	if f == nil {
		return nil, errors.New("it is no descriptor")
	}
	nc, err := net.FileConn(f) // has a duplicate
	_ = f.Close()              // nothing was written
	if err != nil {
		return nil, err
	}
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return nc, nil
	}
	return nil, errors.Join(errors.New("it is no stream"), nc.Close())
}
