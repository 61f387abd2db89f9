package probe

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
)

// Control is the face of the tests.
//
//	POST /send             a list of Send, made one after the other: a list of Answer
//	PUT  /mood/NAME        a Mood
//	GET  /received/NAME    Received
//	GET  /tally/NAME       ?prefix=P&n=N: Tally
//	POST /stream/NAME      a Stream, which begins
//	GET  /stream/NAME      Progress
//	DELETE /stream/NAME    the stream ends
//	GET  /healthz
//
// Streams live as long as ctx.
func Control(ctx context.Context, rs *Receivers, s *Sender) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /send", func(w http.ResponseWriter, r *http.Request) {
		var all []Send
		if !read(w, r, &all) {
			return
		}
		answers := make([]Answer, 0, len(all))
		for _, m := range all {
			answers = append(answers, s.Send(r.Context(), m))
		}
		write(w, answers)
	})
	mux.HandleFunc("PUT /mood/{name}", func(w http.ResponseWriter, r *http.Request) {
		var m Mood
		if read(w, r, &m) {
			rs.Set(r.PathValue("name"), m)
		}
	})
	mux.HandleFunc("GET /received/{name}", func(w http.ResponseWriter, r *http.Request) {
		write(w, rs.Received(r.PathValue("name")))
	})
	mux.HandleFunc("GET /tally/{name}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil || n < 0 {
			http.Error(w, "n is no number", http.StatusBadRequest)
			return
		}
		write(w, rs.Tally(r.PathValue("name"), r.FormValue("prefix"), n))
	})
	mux.HandleFunc("POST /stream/{name}", func(w http.ResponseWriter, r *http.Request) {
		var m Stream
		if read(w, r, &m) && !s.Start(ctx, r.PathValue("name"), m) {
			http.Error(w, "a stream needs a rate and a name of its own", http.StatusConflict)
		}
	})
	mux.HandleFunc("GET /stream/{name}", func(w http.ResponseWriter, r *http.Request) {
		p, ok := s.Progress(r.PathValue("name"))
		if !ok {
			http.Error(w, "no such stream", http.StatusNotFound)
			return
		}
		write(w, p)
	})
	mux.HandleFunc("DELETE /stream/{name}", func(_ http.ResponseWriter, r *http.Request) { s.Stop(r.PathValue("name")) })
	return mux
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2*maxBody)).Decode(into); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
