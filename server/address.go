package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const unixPrefix = "unix:"

func (c *Config) validateListen(problems *problemList) {
	if len(c.Listen) == 0 {
		problems.add("listen", "must name at least one address, as host:port or unix:PATH")
	}
	seen := map[string]int{}
	for i, address := range c.Listen {
		key := fmt.Sprintf("listen[%d]", i)
		canonical, anyPort, err := canonicalAddress(address)
		if err != nil {
			problems.add(key, err.Error())
			continue
		}
		if first, ok := seen[canonical]; ok {
			problems.add(key, fmt.Sprintf("is the same address as listen[%d]: remove one", first))
			continue
		}
		// Each port 0 is another port.
		if !anyPort {
			seen[canonical] = i
		}
	}
}

// canonicalAddress returns address in the one form that equal addresses share.
// The error does not hold the address.
func canonicalAddress(address string) (canonical string, anyPort bool, err error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		if path == "" {
			return "", false, errors.New("unix: needs the path of the socket, for example unix:/run/svc.sock")
		}
		// sun_path holds 108 bytes on Linux and 104 elsewhere, with a NUL.
		if len(path) > 103 {
			return "", false, errors.New("the path of a unix socket may have 103 bytes at most")
		}
		return address, false, nil
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", false, errors.New("must be host:port, for example 127.0.0.1:8080, [::1]:8080 or :8080, or unix:PATH")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", false, errors.New("the port must be a number from 0 to 65535")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	} else if !isHostName(host) {
		return "", false, errors.New("the host must be an IP address, a host name, or empty for all addresses")
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(port, 10)), port == 0, nil
}

// isHostName is true for the empty name too, which means all addresses.
func isHostName(name string) bool {
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return len(name) <= 253
}
