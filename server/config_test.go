package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hotsvc/svc/configsrc"
)

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateListen(t *testing.T) {
	const (
		form = "must be host:port, for example 127.0.0.1:8080, [::1]:8080 or :8080, or unix:PATH"
		port = "the port must be a number from 0 to 65535"
		host = "the host must be an IP address, a host name, or empty for all addresses"
	)
	for _, tt := range []struct {
		name   string
		listen []string
		want   map[string]string // key: reason
	}{
		{"any address", []string{":8080"}, nil},
		{"name", []string{"svc.example.com:80"}, nil},
		{"ipv6", []string{"[::1]:8080", "[fe80::1%eth0]:8080"}, nil},
		{"same port elsewhere", []string{"127.0.0.1:80", "127.0.0.2:80"}, nil},
		{"limits of the port", []string{"127.0.0.1:0", "127.0.0.1:65535"}, nil},
		{"any port twice", []string{"127.0.0.1:0", "127.0.0.1:0"}, nil},
		{"none", nil, map[string]string{"listen": "must name at least one address, as host:port or unix:PATH"}},
		{"empty", []string{""}, map[string]string{"listen[0]": form}},
		{"no port", []string{"127.0.0.1"}, map[string]string{"listen[0]": form}},
		{"url", []string{"http://secret:80"}, map[string]string{"listen[0]": form}},
		{"bare ipv6", []string{"::1:80"}, map[string]string{"listen[0]": form}},
		{"path", []string{"/secret:80"}, map[string]string{"listen[0]": host}},
		{"named port", []string{"secret:http"}, map[string]string{"listen[0]": port}},
		{"empty port", []string{"secret:"}, map[string]string{"listen[0]": port}},
		{"port too high", []string{":65536"}, map[string]string{"listen[0]": port}},
		{"negative port", []string{":-1"}, map[string]string{"listen[0]": port}},
		{
			"unix",
			[]string{":1", "unix:/run/svc.sock", "unix:@abstract"},
			nil,
		},
		{
			"unix without a path",
			[]string{"unix:"},
			map[string]string{"listen[0]": "unix: needs the path of the socket, for example unix:/run/svc.sock"},
		},
		{
			"unix with a long path",
			[]string{"unix:/secret" + strings.Repeat("x", 100)},
			map[string]string{"listen[0]": "the path of a unix socket may have 103 bytes at most"},
		},
		{
			"unix twice",
			[]string{"unix:/secret", "unix:/secret"},
			map[string]string{"listen[1]": "is the same address as listen[0]: remove one"},
		},
		{
			"twice",
			[]string{"Secret:80", ":1", "secret:080"},
			map[string]string{"listen[2]": "is the same address as listen[0]: remove one"},
		},
		{
			"two forms of one address",
			[]string{"[::1]:80", "[0:0::1]:80"},
			map[string]string{"listen[1]": "is the same address as listen[0]: remove one"},
		},
		{"all at once", []string{"x", ":y"}, map[string]string{"listen[0]": form, "listen[1]": port}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := problemsOf(t, (&Config{Listen: tt.listen}).Validate())
			if d := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("problems (-want +got):\n%s", d)
			}
		})
	}
}

// problemsOf are the reasons by key. No error may hold a value; the tests' own
// hold the word secret.
func problemsOf(t *testing.T, err error) map[string]string {
	t.Helper()
	reasons := map[string]string{}
	if err == nil {
		return reasons
	}
	invalid, ok := errors.AsType[*configsrc.InvalidError](err)
	if !ok {
		t.Fatalf("error is a %T", err)
	}
	for _, p := range invalid.Problems {
		reasons[p.Key] = p.Reason
	}
	if strings.Contains(strings.ToLower(err.Error()), "secret") {
		t.Errorf("error %q holds the value", err)
	}
	return reasons
}

func FuzzValidateListen(f *testing.F) {
	for _, s := range []string{":8080", "[::1]:80", "unix:/x", "a:b:c", "x:99999", "[::1%]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		canonical, anyPort, err := canonicalAddress(address)
		if err != nil {
			return
		}
		again, anyPort2, err := canonicalAddress(canonical)
		if err != nil || again != canonical || anyPort2 != anyPort {
			t.Errorf("%q: canonical %q becomes %q, any port %v and %v, %v", address, canonical, again, anyPort, anyPort2, err)
		}
		if anyPort {
			return
		}
		// What is accepted once is refused the second time.
		if err := (&Config{Listen: []string{address, canonical}}).Validate(); err == nil {
			t.Errorf("%q beside its own canonical form is accepted", address)
		}
	})
}
