package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hotsvc/svc/server/liveconn"
)

// A process that drains gives its idle connections to its successor over a pair
// of unix sockets, in batches. A batch is one message:
//
//	4 bytes   "svcm"
//	1 byte    the version of what follows, 1
//	3 bytes   0
//	4 bytes   the length of the rest, big-endian
//	the rest  JSON, see batch
//
// with a descriptor for each connection (SCM_RIGHTS). The receiver answers with
// one byte, the version, when it has taken them all and before it serves any of
// them; the sender waits for that, so one batch is under way at a time. What was
// not answered is still the sender's: it reads until the end before it goes on
// serving them, and from its CloseRead on the receiver cannot answer any more.
// So each connection has one owner, whatever happens to the other process. A
// batch of which something is missing is not answered.

const (
	movesMagic   = "svcm"
	movesVersion = 1
	movesHeader  = 12
	// maxBatch is the number of descriptors that one message can carry (SCM_MAX_FD
	// of Linux).
	maxBatch = 253
	// maxBatchBytes bounds a message. The longest keys of unix sockets fit a
	// hundred times.
	maxBatchBytes = 64 << 10
)

// batch is the JSON of a message. A receiver ignores fields that it does not
// know.
type batch struct {
	// Keys are those of the listeners that the connections came from.
	Keys []string `json:"keys"`
	// Conns are the connections, in the order of the descriptors.
	Conns []movedConn `json:"conns"`
}

// movedConn is one connection. Ages and not times: the clock may be set
// meanwhile.
type movedConn struct {
	Key  int   `json:"key"`           // in Keys
	Open int64 `json:"open"`          // for how long, nanoseconds
	Idle int64 `json:"idle"`          // since when, nanoseconds ago
	New  bool  `json:"new,omitempty"` // no request was read from it yet
}

func encodeBatch(conns []*liveconn.Conn, now time.Time) ([]byte, error) {
	b := batch{Conns: make([]movedConn, len(conns))}
	keys := map[string]int{}
	for i, c := range conns {
		key, known := keys[c.Key()]
		if !known {
			key = len(b.Keys)
			keys[c.Key()] = key
			b.Keys = append(b.Keys, c.Key())
		}
		o := c.Origin()
		b.Conns[i] = movedConn{
			Key: key, New: o.New,
			Open: int64(max(0, now.Sub(o.Opened))), Idle: int64(max(0, now.Sub(o.Since))),
		}
	}
	rest, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	if len(rest) > maxBatchBytes-movesHeader {
		return nil, fmt.Errorf("a message of %d bytes is longer than the %d that one may have", len(rest), maxBatchBytes)
	}
	message := make([]byte, movesHeader, movesHeader+len(rest))
	copy(message, movesMagic)
	message[4] = movesVersion
	binary.BigEndian.PutUint32(message[8:], uint32(len(rest))) //nolint:gosec // bounded above
	return append(message, rest...), nil
}

// batchLength returns how many bytes a message has by its header, which data
// begins with.
func batchLength(data []byte) (int, error) {
	switch {
	case len(data) < movesHeader || string(data[:4]) != movesMagic:
		return 0, errors.New("what came is no batch of connections")
	case data[4] != movesVersion:
		return 0, fmt.Errorf("the other process moves connections by version %d, this one by %d", data[4], movesVersion)
	}
	length := binary.BigEndian.Uint32(data[8:])
	if length > maxBatchBytes-movesHeader {
		return 0, fmt.Errorf("a message of %d bytes is longer than the %d that one may have", length, maxBatchBytes)
	}
	return movesHeader + int(length), nil
}

// decodeBatch reads a whole message that came with a number of descriptors.
func decodeBatch(data []byte, files int) (batch, error) {
	var b batch
	d := json.NewDecoder(bytes.NewReader(data[movesHeader:]))
	if err := d.Decode(&b); err != nil {
		return b, fmt.Errorf("read a batch of connections: %w", err)
	}
	if len(b.Conns) != files || files == 0 {
		return b, fmt.Errorf("a batch of %d connections came with %d descriptors", len(b.Conns), files)
	}
	for _, c := range b.Conns {
		if c.Key < 0 || c.Key >= len(b.Keys) || b.Keys[c.Key] == "" || c.Open < 0 || c.Idle < 0 {
			return b, errors.New("a batch of connections has one that cannot be")
		}
	}
	return b, nil
}

// origin is the connection's, by this process's clock.
func (c movedConn) origin(now time.Time) liveconn.Origin {
	return liveconn.Origin{
		Opened: now.Add(-time.Duration(c.Open)), Since: now.Add(-time.Duration(c.Idle)), New: c.New,
	}
}
