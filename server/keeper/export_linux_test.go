package keeper

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/socket"
)

// What the tests outside see of the messages and the sockets.
const (
	MaxMessage = maxMessage
	MaxBlob    = maxBlob
	MaxName    = maxName
)

var ErrMessage = errMessage

func Decode(data []byte) ([]byte, error) {
	m, err := decodeMessage(data)
	if err != nil {
		return nil, err
	}
	return encodeMessage(m)
}

func EncodeError(text string) ([]byte, error) {
	return encodeMessage(message{Kind: kindFailed, Error: text})
}

func EncodeKeys(keys []string) error {
	_, err := encodeMessage(message{Kind: kindRelease, Keys: keys})
	return err
}

func NewBlob(data []byte) (int, error) { return newBlob("test", data) }
func ReadBlob(fd int) ([]byte, error)  { return readBlob(fd) }

// Exchange sends a message with files through a pair, and returns how many
// arrive.
func Exchange(files ...int) (int, error) {
	a, fd, err := newPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return 0, err
	}
	from := newChannel(a)
	defer from.close()
	b, err := unixConn(fd)
	if err != nil {
		return 0, err
	}
	to := newChannel(b)
	defer to.close()
	if err := from.send(message{Kind: kindHello}, files...); err != nil {
		return 0, err
	}
	_, got, err := to.receive()
	closeFiles(got)
	return len(got), err
}

// Sockets is the table of sockets.
type Sockets struct{ s sockets }

func (s *Sockets) Add(o *socket.Socket, mode os.FileMode) { s.s.add(o, mode).wanted[nobody] = claim{} }

// Assign returns the actual addresses, "" where one is to be opened.
func (s *Sockets) Assign(addrs []socket.Address) []string {
	wanted := make([]request, 0, len(addrs))
	for _, a := range addrs {
		wanted = append(wanted, request{Address: a})
	}
	found := make([]string, 0, len(addrs))
	for _, l := range s.s.assign(wanted) {
		if l == nil {
			found = append(found, "")
			continue
		}
		found = append(found, l.Addr())
	}
	return found
}

// End ends all claims.
func (s *Sockets) End() error {
	s.s.drop(nobody)
	return s.s.sweep()
}

func (s *Sockets) Len() int { return len(s.s.list) }
