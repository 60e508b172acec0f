// s3rver on a free port of loopback, until killed: s3_s3rver.mjs PORTFILE [DIR]
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import S3rver from 's3rver';

const [portfile, given] = process.argv.slice(2);
const directory = given ?? fs.mkdtempSync(path.join(os.tmpdir(), 'postern-s3rver-'));
const server = new S3rver({ address: '127.0.0.1', port: 0, silent: true, directory });
const { address, port } = await server.run();

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
  process.on(signal, () => {
    if (given === undefined) fs.rmSync(directory, { recursive: true, force: true });
    process.exit(0);
  });
}
fs.writeFileSync(`${portfile}.partial`, `http://${address}:${port}\n`);
fs.renameSync(`${portfile}.partial`, portfile);
