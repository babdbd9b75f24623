// Built into the Python package under fixed names, so that a change is a readable diff.
export default {
  base: "./",
  build: {
    outDir: "../src/nacs/view/assets",
    emptyOutDir: true,
    modulePreload: false,
    license: { fileName: "licences.md" },
    rolldownOptions: {
      output: {
        entryFileNames: "explorer.js",
        assetFileNames: "explorer[extname]",
        codeSplitting: false,
      },
    },
  },
};
