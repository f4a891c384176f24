package keeper

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// channel is one end of the pair between keeper and worker. Any goroutine may
// send, one receives.
type channel struct {
	conn *net.UnixConn
	mu   sync.Mutex // one message at a time
	buf  []byte     // of the receiver
	oob  []byte
}

// sendTimeout bounds a send. The other end has room for a hundred messages, so
// one that does not take any is stuck.
const sendTimeout = 500 * time.Millisecond

// newPair makes a connected pair: this process's end, and the descriptor of the
// other one.
func newPair(kind int) (*net.UnixConn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("make socket pair: %w", err)
	}
	conn, err := unixConn(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, -1, err
	}
	return conn, fds[1], nil
}

// unixConn takes over a descriptor.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = f.Close() }() // the connection has a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("use socket: not of the unix family"), c.Close())
	}
	return u, nil
}

func newChannel(conn *net.UnixConn) *channel {
	return &channel{conn: conn, buf: make([]byte, maxMessage+1), oob: make([]byte, unix.CmsgSpace(4*maxFiles))}
}

// send writes one message with files, which stay the caller's.
func (c *channel) send(m message, files ...int) error {
	data, err := encodeMessage(m)
	if err != nil {
		return err
	}
	if len(files) > maxFiles {
		return fmt.Errorf("%w: %s with %d files, more than %d", errMessage, m.Kind, len(files), maxFiles)
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send message %s: %w", m.Kind, err)
	}
	if _, _, err := c.conn.WriteMsgUnix(data, rights, nil); err != nil {
		return fmt.Errorf("send message %s: %w", m.Kind, err)
	}
	return nil
}

// receive blocks until there is a message, the other end is gone (io.EOF), or
// what came is no message. The files are the caller's; some are missing where
// this process may not have more.
func (c *channel) receive() (message, []int, error) {
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.buf, c.oob)
	files, rightsErr := parseRights(c.oob[:max(oobn, 0)])
	switch {
	case err != nil:
		closeFiles(files)
		// A pair whose other end died with unread messages is reset.
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
			err = io.EOF
		}
		return message{}, nil, err
	case rightsErr != nil:
		closeFiles(files)
		return message{}, nil, rightsErr
	case flags&unix.MSG_TRUNC != 0 || n > maxMessage:
		closeFiles(files)
		return message{}, nil, fmt.Errorf("%w: too long", errMessage)
	}
	m, err := decodeMessage(c.buf[:n])
	if err != nil {
		closeFiles(files)
		return message{}, nil, err
	}
	return m, files, nil
}

func (c *channel) close() { _ = c.conn.Close() }

// closeRead ends the receiving after what is there, whoever has the other end.
func (c *channel) closeRead() { _ = c.conn.CloseRead() } // an end that is closed has none

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read files of message: %w", err)
	}
	var files []int
	for _, control := range controls {
		fds, err := unix.ParseUnixRights(&control)
		if err != nil {
			return files, fmt.Errorf("read files of message: %w", err)
		}
		files = append(files, fds...)
	}
	return files, nil
}

func closeFiles(files []int) {
	for _, fd := range files {
		_ = unix.Close(fd)
	}
}

// newBlob makes a sealed memory file: whoever has it can be sure that it stays
// as it is.
func newBlob(name string, data []byte) (int, error) {
	if len(data) > maxBlob {
		return -1, fmt.Errorf("store %s: %d bytes are more than %d", name, len(data), maxBlob)
	}
	fd, err := unix.MemfdCreate("svc-"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("store %s: make memory file: %w", name, err)
	}
	for rest := data; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("store %s: write memory file: %w", name, err)
		}
		rest = rest[n:]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealed); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("store %s: seal memory file: %w", name, err)
	}
	return fd, nil
}

const sealed = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// checkBlob tells whether a descriptor is a sealed memory file of a size that
// is allowed. It reads nothing, so a keeper need not hold the content.
func checkBlob(fd int) error {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&sealed != sealed {
		return fmt.Errorf("%w: not a sealed memory file", errMessage)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at memory file: %w", err)
	}
	if st.Size > maxBlob {
		return fmt.Errorf("%w: a memory file of more than %d bytes", errMessage, maxBlob)
	}
	return nil
}

// readBlob reads a sealed memory file whole. Others share its position, which
// is not used.
func readBlob(fd int) ([]byte, error) {
	if err := checkBlob(fd); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at memory file: %w", err)
	}
	data := make([]byte, st.Size)
	for read := 0; read < len(data); {
		n, err := unix.Pread(fd, data[read:], int64(read))
		if err != nil {
			return nil, fmt.Errorf("read memory file: %w", err)
		}
		if n == 0 {
			return nil, fmt.Errorf("read memory file: %w", io.ErrUnexpectedEOF)
		}
		read += n
	}
	return data, nil
}
