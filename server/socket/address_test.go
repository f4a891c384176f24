package socket

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name  string
		addrs []string
		want  []Address
	}{
		{"IPv4", []string{"127.0.0.1:8080"}, []Address{{"tcp4", "127.0.0.1:8080", 0}}},
		{"IPv4 in IPv6", []string{"[::ffff:127.0.0.1]:8080"}, []Address{{"tcp4", "127.0.0.1:8080", 0}}},
		{"IPv6", []string{"[0:0::0001]:8080"}, []Address{{"tcp6", "[::1]:8080", 0}}},
		{"all of IPv4", []string{"0.0.0.0:8080"}, []Address{{"tcp4", "0.0.0.0:8080", 0}}},
		{"all", []string{":8080"}, []Address{{"tcp", "[::]:8080", 0}}},
		{"all by number", []string{"[::]:8080"}, []Address{{"tcp", "[::]:8080", 0}}},
		{"port with zeros", []string{"127.0.0.1:08080"}, []Address{{"tcp4", "127.0.0.1:8080", 0}}},
		{
			"both families by themselves",
			[]string{"0.0.0.0:8080", "[::]:8080"},
			[]Address{{"tcp4", "0.0.0.0:8080", 0}, {"tcp6", "[::]:8080", 0}},
		},
		{
			"both families by themselves, the other way round",
			[]string{":8080", "0.0.0.0:08080"},
			[]Address{{"tcp6", "[::]:8080", 0}, {"tcp4", "0.0.0.0:8080", 0}},
		},
		{
			"all beside another port of IPv4",
			[]string{"0.0.0.0:8081", "[::]:8080"},
			[]Address{{"tcp4", "0.0.0.0:8081", 0}, {"tcp", "[::]:8080", 0}},
		},
		{
			"ports that the kernel chooses",
			[]string{"127.0.0.1:0", "[::1]:0", "127.0.0.1:0", ":0", "0.0.0.0:0"},
			[]Address{
				{"tcp4", "127.0.0.1:0", 1},
				{"tcp6", "[::1]:0", 1},
				{"tcp4", "127.0.0.1:0", 2},
				{"tcp", "[::]:0", 1},
				{"tcp4", "0.0.0.0:0", 1},
			},
		},
		{"abstract socket", []string{"unix:@svc"}, []Address{{"unix", "@svc", 0}}},
		{"none", nil, []Address{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Resolve(t.Context(), tt.addrs)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("addresses (-want +got):\n%s", d)
			}
		})
	}
}

// A name stands for the address that net.Listen takes for it.
func TestResolveName(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if got, want := resolved(t, "LOCALHOST:0").withPort(ln.Addr()).Target, ln.Addr().String(); got != want {
		t.Errorf("localhost is %s, net.Listen takes %s", got, want)
	}
}

func TestResolveErrors(t *testing.T) {
	for _, tt := range []struct {
		addrs []string
		want  string
	}{
		{[]string{"nobody.invalid:80"}, "listen on nobody.invalid:80: the host name does not resolve: "},
		{[]string{"127.0.0.1"}, "listen on 127.0.0.1: address 127.0.0.1: missing port in address"},
		{[]string{"127.0.0.1:65536"}, "listen on 127.0.0.1:65536: "},
		{[]string{"unix:"}, "listen on unix:: unix: needs the path of the socket"},
		{[]string{"127.0.0.1:80", "[::ffff:127.0.0.1]:80"}, "listen on [::ffff:127.0.0.1]:80: it is the same address as 127.0.0.1:80; remove one"},
		{[]string{":80", "[::]:80", "0.0.0.0:80"}, "listen on [::]:80: it is the same address as :80; remove one"},
		{[]string{"unix:/run/svc.sock", "unix:/run//./svc.sock"}, "listen on unix:/run//./svc.sock: it is the same address as unix:/run/svc.sock; remove one"},
	} {
		_, err := Resolve(t.Context(), tt.addrs)
		wantError(t, err, tt.want)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%v is a %T", err, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Resolve(canceled, []string{"nobody.invalid:80"})
	wantError(t, err, "listen on nobody.invalid:80: ")
}

// However a path is written, its key is one.
func TestResolvePath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "real", "folder"), 0o700),
		os.Symlink(filepath.Join("real", "folder"), filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	want := Address{Network: "unix", Target: filepath.Join(dir, "real", "svc.sock")}
	for _, path := range []string{
		want.Target, "real/svc.sock", "./real//svc.sock", "real/folder/../svc.sock",
		"link/../svc.sock", // not dir/svc.sock: the kernel follows the link first
	} {
		if got := resolved(t, "unix:"+path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	t.Chdir(filepath.Join(dir, "real", "folder"))
	if got := resolved(t, "unix:../svc.sock"); got != want {
		t.Errorf("../svc.sock is %v, want %v", got, want)
	}
}

// A path that is too long for a socket's address may be short from here.
func TestLongPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, strings.Repeat("d", 120))
	if err := errors.Join(os.MkdirAll(filepath.Join(folder, "below"), 0o700),
		os.Symlink(filepath.Join(folder, "below"), filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, path string }{
		{folder, "svc.sock"},
		{filepath.Join(folder, "below"), "../svc.sock"},
		{filepath.Join(dir, "link"), "../svc.sock"}, // as a shell tells it, by the link
	} {
		t.Chdir(tt.from)
		ln := listenOn(t, "unix:"+tt.path)
		want := filepath.Join(folder, "svc.sock")
		if got := ln.Addr().String(); got != want {
			t.Errorf("it listens on %s, want %s", got, want)
		}
		if got := KeyOf(ln); got != "unix:"+want {
			t.Errorf("its key is %s", got)
		}
		dial(t, &net.UnixAddr{Net: "unix", Name: tt.path})
		if _, err := Listen(t.Context(), resolved(t, "unix:"+want), 0o660); !errors.Is(err, errAddrInUse) {
			t.Errorf("a second one is answered %v", err)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(want); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	}
	t.Chdir(dir)
	_, err = Listen(t.Context(), Address{Network: "unix", Target: filepath.Join(folder, "svc.sock")}, 0o660)
	if runtime.GOOS == "linux" {
		wantError(t, err, "listen on unix:"+folder+"/svc.sock: ")
	}
}

func TestAddressString(t *testing.T) {
	for _, tt := range []struct {
		address Address
		want    string
	}{
		{Address{"tcp4", "127.0.0.1:80", 0}, "127.0.0.1:80"},
		{Address{"tcp", "[::]:80", 0}, "[::]:80"},
		{Address{"tcp6", "[::]:80", 0}, "tcp6:[::]:80"},
		{Address{"tcp6", "[::1]:80", 0}, "[::1]:80"},
		{Address{"tcp4", "127.0.0.1:0", 1}, "127.0.0.1:0"},
		{Address{"tcp4", "127.0.0.1:0", 2}, "127.0.0.1:0#2"},
		{Address{"unix", "/run/svc.sock", 0}, "unix:/run/svc.sock"},
	} {
		if got := tt.address.String(); got != tt.want {
			t.Errorf("%#v is %q, want %q", tt.address, got, tt.want)
		}
	}
}

func TestAddressAsJSON(t *testing.T) {
	want := []Address{{"tcp4", "127.0.0.1:80", 0}, {"tcp6", "[::1]:0", 2}, {"unix", "/run/svc.sock", 0}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	const names = `[{"network":"tcp4","target":"127.0.0.1:80"},{"network":"tcp6","target":"[::1]:0","nth":2},{"network":"unix","target":"/run/svc.sock"}]`
	if string(text) != names {
		t.Errorf("JSON %s", text)
	}
	var got []Address
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}

func TestCovers(t *testing.T) {
	both, only6 := Address{"tcp", "[::]:80", 0}, Address{"tcp6", "[::]:80", 0}
	all4, all4Elsewhere := Address{"tcp4", "0.0.0.0:80", 0}, Address{"tcp4", "0.0.0.0:81", 0}
	one4, one6 := Address{"tcp4", "127.0.0.1:80", 0}, Address{"tcp6", "[::1]:80", 0}
	any4, any1 := Address{"tcp4", "0.0.0.0:0", 1}, Address{"tcp4", "127.0.0.1:0", 1}
	path, name := Address{"unix", "/run/svc.sock", 0}, Address{"unix", "@svc", 0}
	all := []Address{both, only6, all4, all4Elsewhere, one4, one6, any4, any1, path, name}
	covered := map[Address][]Address{
		both:  {only6, all4, one4, one6},
		only6: {one6},
		all4:  {one4},
	}
	for _, a := range all {
		for _, b := range all {
			want := a == b
			for _, c := range covered[a] {
				want = want || b == c
			}
			if got := a.Covers(b); got != want {
				t.Errorf("%v covers %v: %v", a, b, got)
			}
		}
	}
}

// What is resolved and written again is the same place.
func FuzzResolve(f *testing.F) {
	for _, addr := range []string{
		"127.0.0.1:80", ":8080", "[::]:0", "[::ffff:1.2.3.4]:1", "[fe80::1%lo]:80", "unix:/run/svc.sock", "unix:a/../b", "unix:@x", "unix:", "x:y", "a:65535",
	} {
		f.Add(addr)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no names are looked up
		first, err := Resolve(ctx, []string{addr})
		if err != nil {
			return
		}
		again, err := Resolve(ctx, []string{first[0].written()})
		if err != nil {
			t.Fatalf("%q is %v, which is refused: %v", addr, first[0], err)
		}
		if d := cmp.Diff(first, again); d != "" {
			t.Errorf("%q is another address when written again:\n%s", addr, d)
		}
		if !first[0].Covers(again[0]) {
			t.Errorf("%v does not cover itself", first[0])
		}
	})
}
