// Verifies an audit log with Go's golang.org/x/mod/sumdb, which Debian packages: signed notes by its
// `note`, Merkle trees, tiles and proofs by its `tlog`.
//
//	verify_log.go log DIR KEYS                   every shard below DIR, or the one that DIR is
//	verify_log.go receipt ENTRY PROOF KEYS       an entry by its c2sp.org/tlog-proof
//	verify_log.go consistency OLD NEW PATH KEYS  two checkpoints and the hashes between them, one a line
//
// KEYS has a verifier key on each line, of the log's origin; sumdb knows none but Ed25519 keys, so it
// takes the one of type 1 and leaves signatures of other kinds to verify_log.mjs.
// Prints one line of JSON; exits 1 with one line on stderr when something does not verify, 2 on usage.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// Height of a tile (c2sp.org/tlog-tiles): 256 hashes.
	height      = 8
	width       = 1 << height
	ed25519Note = 1
)

// What was verified of one shard, or of one entry of it.
type verified struct {
	Shard   string `json:"shard"`
	Size    int64  `json:"size"`
	Root    string `json:"root"`
	Entries *int64 `json:"entries,omitempty"`
	Index   *int64 `json:"index,omitempty"`
}

type checkpoint struct {
	shard string
	tree  tlog.Tree
}

func (c checkpoint) verified() verified {
	return verified{Shard: c.shard, Size: c.tree.N, Root: hex.EncodeToString(c.tree.Hash[:])}
}

// logKey is the log's Ed25519 key, before a shard's name is put to it.
type logKey struct {
	origin string
	key    string // base64 of type and key, as in a verifier key
}

func readKey(file string) (logKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return logKey{}, err
	}
	for _, line := range strings.Fields(string(text)) {
		// The verifier key as it stands must be good for its own name.
		verifier, err := note.NewVerifier(line)
		if err != nil {
			continue
		}
		parts := strings.SplitN(line, "+", 3)
		if bytes, err := base64.StdEncoding.DecodeString(parts[2]); err == nil && bytes[0] == ed25519Note {
			return logKey{origin: verifier.Name(), key: parts[2]}, nil
		}
	}
	return logKey{}, fmt.Errorf("%s: no Ed25519 verifier key", file)
}

// openNote verifies a checkpoint by the key under the name of the shard that the note claims to be of.
func (k logKey) openNote(text []byte) (checkpoint, error) {
	shard := strings.SplitN(string(text), "\n", 2)[0]
	number := strings.TrimPrefix(shard, k.origin+"/")
	n, err := strconv.ParseInt(number, 10, 64)
	if number == shard || err != nil || n < 1 || strconv.FormatInt(n, 10) != number {
		return checkpoint{}, fmt.Errorf("the checkpoint is of %q, which is no shard of %s", shard, k.origin)
	}
	bytes, err := base64.StdEncoding.DecodeString(k.key)
	if err != nil {
		return checkpoint{}, err
	}
	vkey, err := note.NewEd25519VerifierKey(shard, bytes[1:])
	if err != nil {
		return checkpoint{}, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return checkpoint{}, err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return checkpoint{}, errors.New("a checkpoint has three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return checkpoint{}, fmt.Errorf("no size: %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return checkpoint{}, fmt.Errorf("no root: %q", lines[2])
	}
	return checkpoint{shard, tlog.Tree{N: size, Hash: root}}, nil
}

// tilePath is where c2sp.org/tlog-tiles puts a tile. It is sumdb's place without the height, which is
// always 8 there, and level "data" is called "entries".
func tilePath(level string, n int64, w int) string {
	groups := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		groups = fmt.Sprintf("x%03d/%s", n%1000, groups)
	}
	path := filepath.Join("tile", level, filepath.FromSlash(groups))
	if w != width {
		path = filepath.Join(path+".p", strconv.Itoa(w))
	}
	return path
}

// tiles reads a shard's tiles for sumdb, which authenticates them against the root.
type tiles struct{ dir string }

func (tiles) Height() int                     { return height }
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, len(wanted))
	for i, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(t.dir, tilePath(strconv.Itoa(tile.L), tile.N, tile.W)))
		if err != nil {
			return nil, err
		}
		all[i] = data
	}
	return all, nil
}

// bundle reads entry bundle n of w entries: each is its length in two bytes, and itself.
func bundle(dir string, n int64, w int) ([][]byte, error) {
	path := tilePath("entries", n, w)
	data, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) > 0 {
		if len(data) < 2 {
			return nil, fmt.Errorf("%s ends within a length", path)
		}
		length := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; len(data) < length {
			return nil, fmt.Errorf("%s ends within an entry", path)
		}
		entries, data = append(entries, data[:length]), data[length:]
	}
	if len(entries) != w {
		return nil, fmt.Errorf("%s has %d entries, not %d", path, len(entries), w)
	}
	return entries, nil
}

// shard checks every entry of a shard twice: against the tiles, which the root authenticates, and by
// computing the root from the entries alone.
func (k logKey) shard(dir string) (verified, error) {
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return verified{}, err
	}
	head, err := k.openNote(text)
	if err != nil {
		return verified{}, err
	}
	// A directory that is named after a shard holds that one.
	if n, err := strconv.Atoi(filepath.Base(dir)); err == nil && head.shard != fmt.Sprintf("%s/%d", k.origin, n) {
		return verified{}, fmt.Errorf("the checkpoint is of %s", head.shard)
	}
	size := head.tree.N
	result := head.verified()
	result.Entries = &size
	if size == 0 {
		// RFC 6962: the hash of nothing; sumdb has no trees without records.
		const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		if result.Root != empty {
			return verified{}, errors.New("the empty tree has another root")
		}
		return result, nil
	}
	byTiles := tlog.TileHashReader(head.tree, tiles{dir})
	var stored []tlog.Hash
	byEntries := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hashes[i] = stored[index]
		}
		return hashes, nil
	})
	for n := int64(0); n*width < size; n++ {
		w := width
		if left := size - n*width; left < width {
			w = int(left)
		}
		entries, err := bundle(dir, n, w)
		if err != nil {
			return verified{}, err
		}
		indexes := make([]int64, w)
		for i := range entries {
			indexes[i] = tlog.StoredHashIndex(0, n*width+int64(i))
		}
		hashes, err := byTiles.ReadHashes(indexes)
		if err != nil {
			return verified{}, err
		}
		for i, entry := range entries {
			index := n*width + int64(i)
			if tlog.RecordHash(entry) != hashes[i] {
				return verified{}, fmt.Errorf("entry %d is another one than its tile says", index)
			}
			more, err := tlog.StoredHashes(index, entry, byEntries)
			if err != nil {
				return verified{}, err
			}
			stored = append(stored, more...)
		}
	}
	root, err := tlog.TreeHash(size, byEntries)
	if err != nil {
		return verified{}, err
	}
	if root != head.tree.Hash {
		return verified{}, errors.New("the entries have another root")
	}
	return result, nil
}

func (k logKey) log(dir string) ([]verified, error) {
	if _, err := os.Stat(filepath.Join(dir, "checkpoint")); err == nil {
		one, err := k.shard(dir)
		return []verified{one}, err
	}
	var numbers []int
	listed, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, item := range listed {
		if n, err := strconv.Atoi(item.Name()); err == nil && item.IsDir() {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s has no shards", dir)
	}
	sort.Ints(numbers)
	var all []verified
	for _, n := range numbers {
		one, err := k.shard(filepath.Join(dir, strconv.Itoa(n)))
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", n, err)
		}
		all = append(all, one)
	}
	return all, nil
}

func hashes(lines []string) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, fmt.Errorf("no hash: %q", line)
		}
		all = append(all, hash)
	}
	return all, nil
}

func (k logKey) receipt(entryFile, proofFile string) (verified, error) {
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return verified{}, err
	}
	proof, err := os.ReadFile(proofFile)
	if err != nil {
		return verified{}, err
	}
	parts := strings.SplitN(string(proof), "\n\n", 2)
	lines := strings.Split(parts[0], "\n")
	if len(parts) != 2 || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return verified{}, errors.New("no c2sp.org/tlog-proof@v1 without extra data")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return verified{}, err
	}
	path, err := hashes(lines[2:])
	if err != nil {
		return verified{}, err
	}
	head, err := k.openNote([]byte(parts[1]))
	if err != nil {
		return verified{}, err
	}
	if err := tlog.CheckRecord(path, head.tree.N, head.tree.Hash, index, tlog.RecordHash(entry)); err != nil {
		return verified{}, err
	}
	result := head.verified()
	result.Index = &index
	return result, nil
}

func (k logKey) consistency(oldFile, newFile, pathFile string) (verified, error) {
	var heads [2]checkpoint
	for i, file := range []string{oldFile, newFile} {
		text, err := os.ReadFile(file)
		if err != nil {
			return verified{}, err
		}
		if heads[i], err = k.openNote(text); err != nil {
			return verified{}, err
		}
	}
	text, err := os.ReadFile(pathFile)
	if err != nil {
		return verified{}, err
	}
	path, err := hashes(strings.Fields(string(text)))
	if err != nil {
		return verified{}, err
	}
	older, newer := heads[0], heads[1]
	if older.shard != newer.shard {
		return verified{}, errors.New("the checkpoints are of two shards")
	}
	err = tlog.CheckTree(path, newer.tree.N, newer.tree.Hash, older.tree.N, older.tree.Hash)
	return newer.verified(), err
}

func run(arguments []string) (interface{}, error) {
	key, err := readKey(arguments[len(arguments)-1])
	if err != nil {
		return nil, err
	}
	switch arguments[0] {
	case "log":
		return key.log(arguments[1])
	case "receipt":
		return key.receipt(arguments[1], arguments[2])
	default:
		return key.consistency(arguments[1], arguments[2], arguments[3])
	}
}

func main() {
	arguments := os.Args[1:]
	wanted := map[string]int{"log": 3, "receipt": 4, "consistency": 5}
	if len(arguments) == 0 || wanted[arguments[0]] != len(arguments) {
		fmt.Fprintln(os.Stderr, "usage: verify_log.go log DIR KEYS | receipt ENTRY PROOF KEYS | consistency OLD NEW PATH KEYS")
		os.Exit(2)
	}
	result, err := run(arguments)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "verify_log: refused: %v\n", err)
		os.Exit(1)
	}
}
