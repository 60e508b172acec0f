// Makes npm packages load from POSTERN_TEST_HOME instead of from beside the importing file, so that
// the source tree holds no node_modules.
import { register } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const home = pathToFileURL(path.resolve(process.env.POSTERN_TEST_HOME, 'node', 'package.json'));
const here = new URL('.', import.meta.url);
const hook = `
  export async function resolve(name, context, next) {
    const bare = !/^([./]|[a-z]+:)/.test(name);
    const ours = context.parentURL?.startsWith(${JSON.stringify(here.href)});
    return next(name, bare && ours ? { ...context, parentURL: ${JSON.stringify(home.href)} } : context);
  }`;
register('data:text/javascript,' + encodeURIComponent(hook));
