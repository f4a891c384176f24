package load

import (
	"io"
	"net/http"
	"os"
	"strconv"
)

const (
	idHeader  = "Load-Id"
	pidHeader = "Load-Pid"
	maxBody   = 64 // of a request: an id
)

// Handler serves the requests of this package at any path. All its answers name
// the process in the header Load-Pid. A POST names its id in the header Load-Id
// and in its body; one that has come whole is written into the record before it
// is answered, with both again.
func Handler(record *Record) http.Handler {
	pid := strconv.Itoa(os.Getpid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(pidHeader, pid)
		switch r.Method {
		case http.MethodGet:
			w.WriteHeader(http.StatusOK)
		case http.MethodPost:
			id, ok := requestID(w, r)
			if !ok {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			if err := record.Add(id); err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			text := strconv.FormatUint(id, 10)
			w.Header().Set(idHeader, text)
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, text) // the client sees that it did not come
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	})
}

// requestID reads the id of a request, which must be the same in both places.
func requestID(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil || string(body) != r.Header.Get(idHeader) {
		return 0, false
	}
	id, err := strconv.ParseUint(string(body), 10, 64)
	return id, err == nil && id > 0
}
