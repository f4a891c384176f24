package keeper_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hotsvc/svc/server/keeper"
	"github.com/hotsvc/svc/server/socket"
)

// What can be read stays the same when it is written and read again, and does
// not grow.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"kind":"hello","protocol":1,"version":"1.2"}`))
	f.Add([]byte(`{"kind":"prepared","kept":{"127.0.0.1:80":true},"limits":{"timeout":1}}`))
	f.Add([]byte(`{"kind":"listen","id":1,"addresses":[{"address":{"network":"tcp4","target":"127.0.0.1:0","nth":1}}]}`))
	f.Add([]byte(`{"kind":""}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := keeper.Decode(data)
		if err != nil {
			if !errors.Is(err, keeper.ErrMessage) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		second, err := keeper.Decode(first)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s\nbecomes\n%s, %v", first, second, err)
		}
	})
}

func TestMessageLimits(t *testing.T) {
	many := func(n int) string {
		list := map[string]int{}
		for i := range n {
			list[fmt.Sprint(i)] = i
		}
		data, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for what, text := range map[string]string{
		"no kind":         `{"id":1}`,
		"cut":             `{"kind":"hello"`,
		"another type":    `{"kind":1}`,
		"a long name":     `{"kind":"keep","name":"` + strings.Repeat("n", keeper.MaxName+1) + `"}`,
		"too many kinds":  `{"kind":"report","held":` + many(65) + `}`,
		"too many keys":   `{"kind":"released","keys":["` + strings.Repeat(`a","`, 200) + `"]}`,
		"too many states": `{"kind":"start","states":["","","","","","","","",""]}`,
	} {
		if _, err := keeper.Decode([]byte(text)); !errors.Is(err, keeper.ErrMessage) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := keeper.Decode([]byte(`{"kind":"new","field":{"of":"a newer version"}}`)); err != nil {
		t.Errorf("of a newer version: %v", err)
	}
	data, err := keeper.EncodeError(strings.Repeat("ä", 1<<20))
	if err != nil || len(data) > keeper.MaxMessage || !utf8.Valid(data) || bytes.Contains(data, []byte("\\ufffd")) {
		t.Errorf("a long error becomes %d bytes, %v", len(data), err)
	}
	if err := keeper.EncodeKeys([]string{strings.Repeat("k", keeper.MaxMessage)}); !errors.Is(err, keeper.ErrMessage) {
		t.Errorf("a message that is too long: %v", err)
	}
}

func TestBlobs(t *testing.T) {
	data := []byte("a content")
	fd, err := keeper.NewBlob(data)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for range 2 { // the position is not used
		if got, err := keeper.ReadBlob(fd); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := unix.Write(fd, data); err == nil {
		t.Error("it can be written")
	}
	if err := unix.Ftruncate(fd, 1); err == nil {
		t.Error("it can be cut")
	}
	if fd, err := keeper.NewBlob(nil); err != nil {
		t.Error(err)
	} else {
		if got, err := keeper.ReadBlob(fd); err != nil || len(got) != 0 {
			t.Errorf("empty: %q, %v", got, err)
		}
		_ = unix.Close(fd)
	}
	if _, err := keeper.NewBlob(make([]byte, keeper.MaxBlob+1)); err == nil {
		t.Error("one that is too large is made")
	}
	unsealed, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(unsealed) }()
	if _, err := keeper.ReadBlob(unsealed); !errors.Is(err, keeper.ErrMessage) {
		t.Errorf("unsealed: %v", err)
	}
	if err := unix.Ftruncate(unsealed, keeper.MaxBlob+1); err != nil {
		t.Fatal(err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(unsealed), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.ReadBlob(unsealed); !errors.Is(err, keeper.ErrMessage) {
		t.Errorf("too large: %v", err)
	}
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	if _, err := keeper.ReadBlob(int(plain.Fd())); !errors.Is(err, keeper.ErrMessage) {
		t.Errorf("a file on disk: %v", err)
	}
}

func TestExchangeFiles(t *testing.T) {
	fd, err := keeper.NewBlob([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, n := range []int{0, 1, 250} {
		files := make([]int, n)
		for i := range files {
			files[i] = fd
		}
		if got, err := keeper.Exchange(files...); err != nil || got != n {
			t.Errorf("of %d files %d arrive, %v", n, got, err)
		}
	}
	if _, err := keeper.Exchange(make([]int, 251)...); !errors.Is(err, keeper.ErrMessage) {
		t.Errorf("too many files: %v", err)
	}
}

// Each socket is assigned once, a named port before a port 0.
func TestAssign(t *testing.T) {
	anyPort := socket.Address{Network: "tcp4", Target: "127.0.0.1:0", Nth: 1}
	second := anyPort
	second.Nth = 2
	s := &keeper.Sockets{}
	o, err := socket.Open(t.Context(), anyPort, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Add(o, 0)
	named := o.Bound()
	got := o.Addr()
	for _, c := range []struct {
		asked []socket.Address
		want  []string
	}{
		{[]socket.Address{anyPort}, []string{got}},
		{[]socket.Address{named}, []string{got}},
		{[]socket.Address{second}, []string{""}},
		{[]socket.Address{anyPort, named}, []string{"", got}},
		{[]socket.Address{named, anyPort}, []string{got, ""}},
		{[]socket.Address{second, anyPort}, []string{"", got}},
	} {
		if diff := cmp.Diff(c.want, s.Assign(c.asked)); diff != "" {
			t.Errorf("%v: %s", c.asked, diff)
		}
	}
	if err := s.End(); err != nil || s.Len() != 0 {
		t.Errorf("%d sockets are left, %v", s.Len(), err)
	}
}
